"""The score of a job's last pipeline and what it is, as JSON, for a search over settings.

python -m eval.commands.score JOB
"""

import json
import sys
from pathlib import Path

import numpy as np

from eval.commands.cli import NoOptions, run
from eval.results.deciding import deciding
from eval.results.row import Row
from eval.results.session import models_of, read_job, read_result
from eval.results.setting import Setting
from recipes.config import UserError


def main(names: list[str], _: NoOptions) -> None:
    """Print the mean reward of sampled responses by a judge that can decide, else the preference accuracy.

    Raises:
        UserError: no job is named, or it has trained or measured nothing.
    """
    if len(names) != 1:
        raise UserError("name a job: python -m eval.commands.score runs/_sessions/<time>/<job>")
    job = read_job(Path(names[0]) / "job.json")
    if not job["pipelines"]:
        raise UserError(f"{names[0]} has finished no pipeline: see its job.json")
    model = models_of(job)[-1]
    result = read_result(model, job["evaluation"])
    row = Row("", Setting(), [job["seed"]], [[model]], [result], [])
    metric = deciding([row])
    print(json.dumps({"score": float(np.mean(metric.numbers(result))), "by": metric.label}))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
