"""The training logs of a session's stages, against the pairs that their pipeline has read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.results.row import Row
from recipes.config import read_json, read_json_rows


@dataclass(frozen=True)
class Training:
    """One stage of one seed: its record, its log, and the pairs that its pipeline read before it."""

    directory: Path
    seed: int
    before: int
    record: dict[str, Any]
    log: list[dict[str, Any]]

    @property
    def stage(self) -> str:
        """The method that trained it."""
        return self.record["stage"]

    @property
    def after(self) -> int:
        """The pairs that the pipeline has read at the end of the stage."""
        return self.before + self.record["pairs"]

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs read and a logged value, both of shape (entries,); values that are not finite are left out."""
        points = [(entry["step"], entry[name]) for entry in self.log if isinstance(entry.get(name), float)]
        steps, values = np.array(points, dtype=float).reshape(-1, 2).T
        return self.before + steps * self.record["pairs"] / max(1, self.record["updates"]), values


def trainings(rows: list[Row]) -> list[Training]:
    """Return the stages of all rows and seeds, shared ones once."""
    found: dict[Path, Training] = {}
    for row in rows:
        for seed, stages in zip(row.seeds, row.directories, strict=True):
            before = 0
            for directory in stages if row.stages else []:  # a base model trained nothing
                training = found.setdefault(directory, read(directory, seed, before))
                before = training.after
    return list(found.values())


def read(directory: Path, seed: int, before: int) -> Training:
    """Read a stage's record and log; the log is empty if the stage logged nothing.

    Raises:
        UserError: the record is missing or damaged.
    """
    return Training(directory, seed, before, read_json(directory / "record.json"), read_log(directory))


def read_log(directory: Path) -> list[dict[str, Any]]:
    """Return the entries of a stage's training log.

    Raises:
        UserError: the log is damaged.
    """
    path = directory / "log_history.jsonl"
    return read_json_rows(path) if path.exists() else []
