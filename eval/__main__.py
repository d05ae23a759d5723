"""The table of a session: evaluate what the launcher trained, and print pipelines side by side.

    python -m eval [SESSION …] [endpoint=URL served=NAME]

A session is a directory under runs/_sessions; without one, the newest is taken. What was measured
before is not measured again. `endpoint=URL` and `served=NAME` let an OpenAI-compatible server give the answers.
"""

import sys
from pathlib import Path
from typing import Any

from eval.answers.endpoint import Answering, Endpoint
from eval.cli import run
from eval.console import progress
from eval.report import write_report
from eval.results.session import answers_asked, jobs_of, measured, models_of, sessions
from eval.results.table import write_table
from recipes.config import UserError, read_json


def main(names: list[str], options: Answering) -> None:
    """Evaluate and print.

    Raises:
        UserError: for whatever the user can mend.
    """
    endpoint = options.elsewhere()
    for session in sessions(names):
        evaluate_session(session, endpoint)
        write_table(session)
        write_report(session)


def evaluate_session(session: Path, endpoint: Endpoint | None = None) -> None:
    """Evaluate every model of a session that has not been: the untuned one, and the last stage of each pipeline."""
    missing: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for job in jobs_of(session):
        for directory in models_of(job):
            result = measured(directory, job["evaluation"])
            if not readable(result):
                missing[result] = (directory, job["evaluation"])
    if not missing:
        return
    from eval.results.measure import evaluate  # torch takes seconds that a table of old results need not wait for

    for result, (directory, settings) in missing.items():
        with progress(answers_asked(settings), f"eval  {directory}") as advance:
            evaluate(directory, settings, result, advance, endpoint)


def readable(result: Path) -> bool:
    """Whether a model was measured; a damaged file is measured anew."""
    try:
        read_json(result)
    except UserError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Answering, main))
