"""The table of a session: evaluate what the launcher trained, and print its pipelines side by side.

    python -m eval [SESSION …] [endpoint=URL served=NAME]

A session is a directory under runs/_sessions; without one, the newest is taken. Existing measurements are reused. With
`endpoint=URL` and `served=NAME` an OpenAI-compatible server generates the responses.
"""

import sys
from pathlib import Path

from eval.answers.endpoint import Answering, Endpoint
from eval.commands.cli import run
from eval.report import write_report
from eval.results.result import measured
from eval.results.session import jobs_of, models_of, sessions, unmeasured
from eval.results.stale import tell_stale
from eval.results.table import write_table
from recipes.system.commands import output


def main(names: list[str], options: Answering) -> None:
    """Evaluate and print.

    Raises:
        UserError: the user can fix it.
    """
    endpoint = options.elsewhere()
    for session in sessions(names):
        evaluate_session(session, endpoint)
        write_report(session, write_table(session))


def evaluate_session(session: Path, endpoint: Endpoint | None = None) -> None:
    """Evaluate a session's models that were not evaluated yet: the base model and each pipeline's last stage."""
    asked = {
        measured(directory, job["evaluation"]): (directory, job["evaluation"])
        for job in jobs_of(session)
        for directory in models_of(job)
    }
    missing = {path: why for path, model in asked.items() if (why := unmeasured(*model))}
    tell_stale(path for path in asked if path not in missing)
    if not missing:
        return
    from eval.results.measure import evaluate  # takes seconds, which a table of old results does not need

    for path, why in missing.items():
        if path.exists():
            output.print(f"measured again: {why.partition(': ')[0]}", soft_wrap=True)
        evaluate(*asked[path], endpoint)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Answering, main))
