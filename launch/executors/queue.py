"""Jobs for other processes, which find them in their directories and may attempt them several times."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from launch.config.schema import Config
from launch.executors.job import Outcome, keep, kept, train_pipelines
from recipes.config import FORMAT, read_config, read_json, write_config

Queue = dict[Path, Config]  # jobs for other processes: directory -> configuration


def hand_over(config: Config, _: Outcome, directory: Path, queue: Queue) -> None:
    """Write a job's configuration to its directory, for another process to `take_over`, and add it to `queue`."""
    leave(config, directory)
    queue[directory] = config


def leave(config: Config, directory: Path) -> None:
    """Write a job's configuration to its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, {"format": FORMAT, **config.to_values()})


def read_job(directory: Path) -> Config:
    """Return the configuration in a job's directory.

    Raises:
        UserError: the file is missing, unreadable, or from another version of this project.
    """
    values = read_config(directory)
    del values["format"]
    return Config.from_values(values)


def take_over(directory: Path, attempt: dict[str, Any], after: Callable[[Outcome], None]) -> None:
    """Train a job that was handed over, or what earlier attempts left undone; then call `after`.

    A stage that already failed in a job of the session is not tried again.
    """
    found = read_json(directory / "job.json")
    known = {"pipelines": {}, "failed": [], "avoided": failed_elsewhere(directory), "errors": [], "status": 0}
    outcome = Outcome(**found | known)
    outcome.attempts.append(attempt | {"started": now()})
    keep(outcome, directory)
    with kept(outcome, directory):
        try:
            train_pipelines(read_job(directory), outcome)
            keep(outcome, directory)
            after(outcome)
        finally:
            outcome.attempts[-1]["ended"] = now()


def failed_elsewhere(directory: Path) -> list[str]:
    """Return the stages that failed in a session's other jobs, or in the jobs that train their shared stages."""
    outcomes = [read_json(path) for path in directory.parent.rglob("job.json") if path.parent != directory]
    return sorted({stage for outcome in outcomes for stage in outcome["failed"]})


def now() -> str:
    """Return the time with its zone: a cluster's machines may be in several."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
