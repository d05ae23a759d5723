"""gpu.json: the outcomes so far, for one machine and one choice of data; read, checked, written at once."""

from pathlib import Path
from typing import Any

from dev.gpu.job import LATE, MEASURED, Job, Outcome
from recipes.config import UserError, read_json, write_json

FIELDS = {"machine": dict, "data": dict, "jobs": dict}
UNASKED = "not asked for"


def read(path: Path) -> dict[str, Any] | None:
    """Return the results of earlier calls; None if there are none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        results = read_json(path)
        whole = all(isinstance(results[name], kind) for name, kind in FIELDS.items())
        whole = whole and all("status" in outcome for outcome in results["jobs"].values())
    except (UserError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"{path} is damaged: move that file away, or choose another --output")
    return results


def begin(path: Path, found: dict[str, Any] | None, machine: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the results to continue: earlier ones with this machine, these libraries and this data, or empty ones.

    Raises:
        UserError: the earlier ones belong to something else.
    """
    if found is None:
        return {"machine": machine, "data": data, "jobs": {}}
    then, now = ({"device": of["device"], **of["versions"]} for of in (found["machine"], machine))
    changed = [
        f"{name} {then.get(name)}, now {now.get(name)}" for name in {**then, **now} if then.get(name) != now.get(name)
    ]
    changed += [
        f"{name} {found['data'].get(name)}, now {data[name]}" for name in data if found["data"].get(name) != data[name]
    ]
    if changed:
        raise UserError(f"{path} has other results ({'; '.join(changed)}): move it, or choose another --output")
    return found


def todo(results: dict[str, Any], wanted: list[Job], parts: list[str]) -> list[Job]:
    """Return the jobs not measured yet, untried ones first, and record why each is missing."""
    known: dict[str, Outcome] = results["jobs"]
    missing = [job for job in wanted if known.get(job.key, {}).get("status") != MEASURED]
    for job in missing:
        if known.get(job.key, {}).get("reason") in (None, UNASKED) or job.key not in known:
            reason = "not reached; run the same command again" if job.part in parts else UNASKED
            known[job.key] = {"status": LATE if job.part in parts else UNASKED, "reason": reason, "seconds": 0.0}
    asked = [job for job in missing if job.part in parts]
    return sorted(asked, key=lambda job: known[job.key]["seconds"] > 0)


def keep(path: Path, results: dict[str, Any], job: Job, outcome: Outcome) -> None:
    """Write an outcome, with its commit."""
    results["jobs"][job.key] = {**outcome, "commit": results["machine"]["commit"]}
    write_json(path, results)
