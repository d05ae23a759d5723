"""What the last pipeline of a job is worth, in one number, for a search over settings.

python -m eval.score JOB
"""

import sys
from pathlib import Path

from eval.cli import NoOptions, run
from eval.results.deciding import deciding
from eval.results.session import models_of, read_job, read_result
from recipes.config import UserError


def main(names: list[str], _: NoOptions) -> None:
    """Print the mean gold reward of sampled answers, or where there is none the preference accuracy.

    Raises:
        UserError: no job was named, or it has trained or measured nothing.
    """
    if len(names) != 1:
        raise UserError("give a job: python -m eval.score runs/_sessions/<time>/<job>")
    job = read_job(Path(names[0]) / "job.json")
    if not job["pipelines"]:
        raise UserError(f"{names[0]} has finished no pipeline")
    result = read_result(models_of(job)[-1], job["evaluation"])
    numbers = deciding(result).numbers(result)
    print(sum(numbers) / len(numbers))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
