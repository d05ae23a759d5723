"""What is known of one pipeline under one setting: its measurements and records, of each seed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.results.setting import Setting
from eval.results.statistics import Comparison, Estimate

Result = dict[str, Any]  # what `eval.results.measure` wrote of one model
Record = dict[str, Any]  # the record.json of one stage
Value = Estimate | Comparison | float | str | None  # of a metric; None where it was not measured


@dataclass
class Row:
    """One pipeline under one setting, over its seeds; a base model is a pipeline without stages."""

    pipeline: str
    setting: Setting
    seeds: list[int]
    directories: list[list[Path]]  # of each seed: its stages in order
    results: list[Result]  # of each seed
    records: list[list[Record]]  # of each seed: those of its stages in order; none for a base model
    rival: str | None = None  # the pipeline that the table compares it with, beside SFT
    budgets: list[dict[str, Any]] = field(default_factory=list)  # of each seed: what the pipelines were trained to
    against: dict[str, dict[str, Comparison]] = field(default_factory=dict)  # outcome -> other pipeline -> as we see it
    values: dict[str, Value] = field(default_factory=dict)  # of every metric, by its key

    @property
    def stages(self) -> list[str]:
        """Which methods trained, in order."""
        return [record["stage"] for record in self.records[0]] if self.records else []

    def estimate(self, key: str) -> Estimate:
        """Return the value of a metric that is an estimate."""
        found = self.values[key]
        assert isinstance(found, Estimate)
        return found

    @property
    def judged(self) -> bool:
        """Whether a reward model has judged its answers."""
        return "reward" in self.results[0]["sampled"][0]

    @property
    def embedded(self) -> bool:
        """Whether its answers are about the embedded world, which knows what each is worth."""
        return "gold" in self.results[0]["sampled"][0]
