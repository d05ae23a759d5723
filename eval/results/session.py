"""A session of the launcher: its jobs, and each model's measurements."""

from itertools import chain
from pathlib import Path
from typing import Any

from eval.answers.store import is_answer
from eval.results.metrics import lacking
from eval.results.result import Result, measured
from eval.results.setting import settings_of
from recipes.config import UserError, read_json
from recipes.system.commands import output

RUNS = Path("runs")
JOB = {"base": str, "pipelines": dict, "evaluation": dict, "overrides": list, "seed": int, "errors": list}
COSTS = (
    "device_seconds",
    "peak_memory_bytes",
    "pairs",
    "tokens",
    "computed_tokens",
    "forward_passes_per_pair",
    "flops",
    "epochs",
)


def sessions(words: list[str], measured: bool = False) -> list[Path]:
    """Return the named session directories, or the newest one that trained something, and was `measured` if asked.

    Raises:
        UserError: a directory is no session, or there is none.
    """
    chosen = [Path(word) for word in words] or newest(measured)
    if not chosen:
        raise UserError(
            "nothing has been trained yet: run `make compare` first, or name a directory under runs/_sessions"
        )
    for path in chosen:
        if not any(path.glob("*/job.json")):
            raise UserError(f"{path} is no session of the launcher: name a directory under runs/_sessions")
    return chosen


def newest(measured: bool) -> list[Path]:
    """Return the newest session of that kind, in a list; print its name if there is a newer one of another kind."""
    jobs = sorted((RUNS / "_sessions").glob("*/*/job.json"), key=lambda path: -path.stat().st_mtime)
    found = list(dict.fromkeys(path.parent.parent for path in jobs))
    jobs_in = ((session, [job for job in jobs_of(session) if job["pipelines"]]) for session in found)
    trained = ((session, done) for session, done in jobs_in if done)  # older ones are read only if they are needed
    first = next(trained, None)
    if first is None:
        return []
    ready = (session for session, done in chain([first], trained) if not measured or any(map(evaluated, done)))
    chosen = next(ready, first[0])  # if none was measured, the newest says how to do it
    if chosen != found[0]:
        lacks = "was not evaluated" if first[0] == found[0] else "trained nothing"
        output.print(f"{found[0]} {lacks}; using {chosen}", soft_wrap=True)
    return [chosen]


def jobs_of(session: Path) -> list[dict[str, Any]]:
    """Return a session's jobs in order, with their settings, including failed ones.

    Pipelines that end in a reward model are left out: it generates nothing.
    """
    paths = [path for path in session.glob("*/job.json") if path.parent.name.isdecimal()]
    jobs = [read_job(path) for path in sorted(paths, key=lambda path: int(path.parent.name))]
    for job, setting in zip(jobs, settings_of(jobs), strict=True):
        stages = job["pipelines"].items()
        job["pipelines"] = {name: part for name, part in stages if not Path(part[-1]).name.startswith("reward-")}
        job["setting"] = setting
    return jobs


def read_job(path: Path) -> dict[str, Any]:
    """Return what the launcher wrote about a job.

    Raises:
        UserError: the file is missing or damaged, or contains something else.
    """
    job = read_json(path)
    if not isinstance(job, dict) or not all(isinstance(job.get(name), kind) for name, kind in JOB.items()):
        raise UserError(f"{path} is damaged, or no job of the launcher: remove {path.parent}, or name another session")
    return job


def read_record(directory: Path) -> dict[str, Any]:
    """Return a stage's record.

    Raises:
        UserError: the file is missing or damaged, or contains something else.
    """
    record = read_json(directory / "record.json")
    if not isinstance(record, dict) or not {"stage", *COSTS} <= record.keys():
        raise UserError(f"{directory}/record.json is no training record: remove {directory} and train it again")
    return record


def read_measured(path: Path, numbers: tuple[str, ...], answers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a file of measurements: each name in `numbers` has a number per pair, each in `answers` has responses.

    There may be no pair: of data without any, the file says so.

    Raises:
        UserError: the file is missing or damaged, or contains something else.
    """
    found = read_json(path)
    whole = isinstance(found, dict) and all(isinstance(found.get(name), list) for name in (*numbers, *answers))
    unpaired = isinstance(found, dict) and found.get("tokens") == {"chosen": [], "rejected": []}
    numeric = (found[name] and {type(value) for value in found[name]} <= {int, float} for name in numbers)
    whole = whole and (unpaired or all(numeric))
    if not whole or not all(found[name] and all(map(is_answer, found[name])) for name in answers):
        raise UserError(f"{path} has no measurements of this project: remove it, and evaluate again")
    return found


def models_of(job: dict[str, Any]) -> list[Path]:
    """Return the stage directories whose models are evaluated: the base model, and the last of each pipeline."""
    if not job["pipelines"]:
        return []
    return [Path(job["base"]), *(Path(stages[-1]) for stages in job["pipelines"].values())]


def evaluated(job: dict[str, Any]) -> bool:
    """Whether everything that a job trained was measured; on a cluster other jobs may still be training."""
    return not any(unmeasured(directory, job["evaluation"]) for directory in models_of(job))


def unmeasured(directory: Path, settings: dict[str, Any]) -> str | None:
    """Return why a model must be measured under these settings; None if all that the table needs was measured."""
    try:
        read_result(directory, settings)
    except UserError as error:
        return str(error)
    return None


def read_result(directory: Path, settings: dict[str, Any]) -> Result:
    """Return a model's measurements under these settings.

    Raises:
        UserError: there are none, or the file is damaged, or lacks what the table needs.
    """
    path = measured(directory, settings)
    result = read_measured(path, ("chosen", "rejected"), ("sampled", "greedy"))
    if lack := lacking(result, settings.get("gold", False)):
        raise UserError(f"{path} lacks {lack}, which the table needs: evaluate its session with `make eval`")
    return result
