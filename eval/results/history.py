"""What a session's stages logged while they trained, laid along the pairs that their pipeline had read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.results.row import Row
from recipes.config import read_json, read_json_rows


@dataclass(frozen=True)
class Training:
    """One stage of one seed: its record, its log, and how many pairs its pipeline had read before it."""

    directory: Path
    seed: int
    before: int
    record: dict[str, Any]
    log: list[dict[str, Any]]

    @property
    def stage(self) -> str:
        """Which method trained."""
        return self.record["stage"]

    @property
    def after(self) -> int:
        """How many pairs the pipeline had read when the stage was done."""
        return self.before + self.record["pairs"]

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs read and a logged value, both of shape (entries,); where it is not finite it is left out."""
        points = [(entry["step"], entry[name]) for entry in self.log if isinstance(entry.get(name), float)]
        steps, values = np.array(points, dtype=float).reshape(-1, 2).T
        return self.before + steps * self.record["pairs"] / max(1, self.record["updates"]), values


def trainings(rows: list[Row]) -> list[Training]:
    """Return the stages of all rows and seeds; one that several pipelines share is there once."""
    found: dict[Path, Training] = {}
    for row in rows:
        for seed, stages in zip(row.seeds, row.directories, strict=True):
            before = 0
            for directory in stages if row.stages else []:  # a base model trained nothing
                training = found.setdefault(directory, read(directory, seed, before))
                before = training.after
    return list(found.values())


def read(directory: Path, seed: int, before: int) -> Training:
    """Read a stage's record and log; a stage that logged nothing has an empty one.

    Raises:
        UserError: the record is missing or damaged.
    """
    return Training(directory, seed, before, read_json(directory / "record.json"), read_log(directory))


def read_log(directory: Path) -> list[dict[str, Any]]:
    """Return what a stage logged while it trained, entry by entry.

    Raises:
        UserError: the log is damaged.
    """
    path = directory / "log_history.jsonl"
    return read_json_rows(path) if path.exists() else []
