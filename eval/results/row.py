"""One pipeline under one setting: its measurements and records for each seed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.results.differences import Difference
from eval.results.result import Result
from eval.results.setting import Setting
from eval.results.statistics import Comparison, Estimate

Record = dict[str, Any]  # the record.json of one stage
Judgement = tuple[Any, Any]  # `Pair` and `Vote` of eval.answers.votes, on whose code no measurement depends
Value = Estimate | Comparison | float | str | None  # of a metric; None if it was not measured


@dataclass
class Row:
    """One pipeline under one setting, over its seeds; a base model is a pipeline without stages."""

    pipeline: str
    setting: Setting
    seeds: list[int]
    directories: list[list[Path]]  # of each seed: its stages in order
    results: list[Result]  # of each seed
    records: list[list[Record]]  # for each seed: those of its stages in order; none for a base model
    rival: str | None = None  # the pipeline that the table compares it with, besides SFT
    compare_with: str | None = None  # the pipeline that each other one is tested against; None: all against all
    budgets: list[dict[str, Any]] = field(default_factory=list)  # for each seed: the budget that the pipelines share
    against: dict[str, dict[str, Comparison]] = field(
        default_factory=dict
    )  # outcome -> other pipeline -> ours against it
    differences: dict[str, dict[str, Difference]] = field(
        default_factory=dict
    )  # metric's key -> other pipeline -> our mean minus its
    controlled: dict[str, Estimate] = field(default_factory=dict)  # other pipeline -> our length-controlled win rate
    votes: list[Judgement] = field(default_factory=list)  # people's, on this row against those after it
    values: dict[str, Value] = field(default_factory=dict)  # of every metric, by key

    @property
    def stages(self) -> list[str]:
        """The methods that trained, in order."""
        return [record["stage"] for record in self.records[0]] if self.records else []

    def estimate(self, key: str) -> Estimate:
        """Return the value of a metric that is an estimate."""
        found = self.values[key]
        assert isinstance(found, Estimate)
        return found

    def tested_against(self, other: "Row") -> bool:
        """Whether the comparison with another row of the setting was asked for."""
        return self.compare_with in (None, self.pipeline, other.pipeline)

    @property
    def trained(self) -> bool:
        """Whether it is not a base model."""
        return bool(self.stages)

    @property
    def paired(self) -> bool:
        """Whether it was measured on held-out pairs, and not on responses without a partner alone."""
        return bool(self.results[0]["clusters"]["pairs"])

    @property
    def referenced(self) -> bool:
        """Whether its last method has a reference model."""
        return "reference" in self.results[0]

    @property
    def judged(self) -> bool:
        """Whether a reward model has judged its responses."""
        return "reward" in self.results[0]["sampled"][0]

    @property
    def golden(self) -> bool:
        """Whether its responses have a gold reward."""
        return "gold" in self.results[0]["sampled"][0]

    @property
    def embedded(self) -> bool:
        """Whether that is the embedded world's, which has parts."""
        return self.golden and self.results[0].get("settings", {}).get("gold", True) is True
