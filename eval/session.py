"""What a launcher's session left: its jobs, and where each model's measurements lie."""

import hashlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from recipes.config import UserError, read_json

console = Console(highlight=False, markup=False)  # a path or an option may hold brackets
RUNS = Path("runs")


def sessions(words: list[str]) -> list[Path]:
    """Return the session directories named, or the newest one.

    Raises:
        UserError: a directory is no session, or there is none at all.
    """
    finished = {path.parent.parent for path in (RUNS / "_sessions").glob("*/*/job.json")}  # a killed one has none
    chosen = [Path(word) for word in words] or sorted(finished)[-1:]
    if not chosen:
        raise UserError(
            "nothing has been trained yet: run `make compare` first, or name a directory under runs/_sessions"
        )
    for path in chosen:
        if not any(path.glob("*/job.json")):
            raise UserError(f"{path} is no session of the launcher: name a directory under runs/_sessions")
    return chosen


def jobs_of(session: Path) -> list[dict[str, Any]]:
    """Return a session's jobs in order, those that failed too."""
    return [read_json(path) for path in sorted(session.glob("*/job.json"), key=lambda path: int(path.parent.name))]


def models_of(job: dict[str, Any]) -> list[Path]:
    """Return the stage directories whose models are evaluated: the untuned one, and the last of each pipeline."""
    if not job["pipelines"]:
        return []
    return [Path(job["base"]), *(Path(stages[-1]) for stages in job["pipelines"].values())]


def measured(directory: Path, settings: dict[str, Any]) -> Path:
    """Return the file of a model's measurements under these settings."""
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return directory / "eval" / f"{name}.json"
