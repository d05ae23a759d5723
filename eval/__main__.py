"""`python -m eval [SESSION …]`: evaluate what the launcher's sessions trained, and print their tables.

A session is a directory under runs/_sessions; without one, the newest is taken. What was measured
before is not measured again. `endpoint=URL` and `served=NAME` let an OpenAI-compatible server give the answers.
"""

import sys
from pathlib import Path
from typing import Any

from eval.endpoint import Endpoint
from eval.report import write_report
from eval.session import jobs_of, measured, models_of, sessions
from eval.suite import ENDPOINT, endpoint_of, progress, read_words, run
from eval.table import write_table


def main(words: list[str]) -> None:
    """Evaluate and print.

    Raises:
        UserError: for whatever the user can mend.
    """
    paths, options = read_words(words, ENDPOINT)
    endpoint = endpoint_of(options)
    for session in sessions(paths):
        evaluate_session(session, endpoint)
        write_table(session)
        write_report(session)


def evaluate_session(session: Path, endpoint: Endpoint | None = None) -> None:
    """Evaluate every model of a session that has not been: the untuned one, and the last stage of each pipeline."""
    missing: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for job in jobs_of(session):
        for directory in models_of(job):
            result = measured(directory, job["evaluation"])
            if not result.exists():
                missing[result] = (directory, job["evaluation"])
    if not missing:
        return
    from eval.stage import evaluate  # torch takes seconds that a table of old results need not wait for

    with progress() as bar:
        for result, (directory, settings) in missing.items():
            task = bar.add_task(f" eval  {directory}", total=2 * settings["prompts"])
            advance = lambda count, task=task: bar.advance(task, count)  # noqa: E731
            evaluate(directory, settings, result, advance, endpoint)
            bar.update(task, completed=2 * settings["prompts"])


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
