"""What a row of the table is: its key, label and format, and where its number comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from eval.results.result import Result
from eval.results.row import Record, Row, Value
from eval.results.statistics import estimate, share

ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
# The groups of rows, in the table's order; their names are its headings.
GROUPS = "Responses", "Likelihoods after training", "Endings and lengths", "Cost"
RESPONSES, LIKELIHOODS, ENDINGS, COST = GROUPS


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str  # in table.json and results.json; it never changes
    label: str  # in tables and figures; it may change
    text: Callable[[float], str]  # a number with its digits and unit
    better: Literal["higher", "lower"] | None  # None: neither is
    group: str = field(default=RESPONSES, kw_only=True)  # one of `GROUPS`

    @property
    def title(self) -> str:
        """The head of the row, with an arrow to what is better."""
        return self.label + ARROWS[self.better]

    def value(self, row: Row) -> Value:
        """Return what the table shows of a pipeline."""
        raise NotImplementedError


@dataclass(frozen=True)
class Measured(Metric):
    """A mean over held-out prompts or pairs, and over seeds; one that is shown in percent is of numbers from 0 to 1."""

    numbers: Callable[[Result], Any]  # of one model: per prompt (and sample), pair or passage; KeyError: not measured
    of: Literal["prompts", "pairs", "passages"] = "prompts"
    least: float = field(default=-np.inf, kw_only=True)  # no mean can be smaller, so no interval reaches below
    only: Literal["embedded", "golden", "judged", "trained", "referenced"] | None = (
        None  # the rows of which it is: see `Row`
    )

    def scores(self, row: Row) -> np.ndarray:
        """Return the numbers of every seed, shape (seeds, prompts, pairs or passages) or (seeds, prompts, samples)."""
        return np.array([self.numbers(result) for result in row.results], dtype=float)

    def clusters(self, row: Row) -> np.ndarray:
        """Return the number of the cluster of each prompt, pair or passage, without gaps."""
        return np.unique(row.results[0]["clusters"][self.of], return_inverse=True)[1]

    def of_seeds(self, row: Row, seeds: list[int]) -> np.ndarray:
        """Return the numbers of some of a row's seeds, in their order."""
        return self.scores(row)[[row.seeds.index(seed) for seed in seeds]]

    def value(self, row: Row) -> Value:
        """Return the mean with its interval."""
        if (self.only and not getattr(row, self.only)) or (self.of == "pairs" and not row.paired):
            return None
        found = (share if self.text is percent else estimate)(self.scores(row), self.clusters(row))
        return replace(found, low=max(found.low, self.least))


@dataclass(frozen=True)
class Likelihood(Measured):
    """What training did to the likelihood of texts."""

    of: Literal["prompts", "pairs", "passages"] = "pairs"
    group: str = field(default=LIKELIHOODS, kw_only=True)


@dataclass(frozen=True)
class Cost(Metric):
    """What training cost: of the stages of one seed, then over the seeds."""

    of_stages: Callable[[list[Record]], float]
    over_seeds: Callable[[np.ndarray], float] = np.mean
    group: str = field(default=COST, kw_only=True)

    def spent(self, row: Row) -> np.ndarray:
        """Return the cost with each seed, shape (seeds,); nothing for a base model."""
        return np.array([self.of_stages(stages) for stages in row.records], dtype=float)

    def value(self, row: Row) -> Value:
        """Return the mean over seeds, or the largest; None for a base model."""
        return float(self.over_seeds(self.spent(row))) if row.records else None


@dataclass(frozen=True)
class Computed(Metric):
    """What is neither a mean of measurements nor a cost."""

    compute: Callable[[Row], Value]

    def value(self, row: Row) -> Value:
        """Return it."""
        return self.compute(row)


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}%"


def decimals(count: int) -> Callable[[float], str]:
    """Return what prints a number with so many decimals, and its thousands apart."""
    return lambda value: f"{value:,.{count}f}"
