"""Evaluate one model of one job; a cluster's job runs this itself, so that no other machine has to evaluate.

python -m eval.commands.job JOB STAGE
"""

import sys
from pathlib import Path

from eval.commands.cli import NoOptions, run
from eval.results.measure import evaluate
from eval.results.session import read_job, unmeasured
from recipes.config import UserError


def main(names: list[str], _: NoOptions) -> None:
    """Measure what the table needs, unless that was done.

    Raises:
        UserError: the directories are not a job's and a stage's.
    """
    if len(names) != 2:
        raise UserError(
            "name a job and a stage: python -m eval.commands.job runs/_sessions/<time>/<job> runs/<model>/…"
        )
    job, directory = map(Path, names)
    settings = read_job(job / "job.json")["evaluation"]
    if unmeasured(directory, settings):
        evaluate(directory, settings)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
