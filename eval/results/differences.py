"""How much a metric differs between two pipelines on the same prompts, and whether that is sure.

Win rates say who wins; these say what a winner lost.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from eval.results.statistics import (
    BETTER,
    UNSURE,
    WORSE,
    Estimate,
    compare_points,
    estimate,
    flip_signs,
    over_samples,
    step_down,
)
from eval.results.variance import ERROR, variance


@dataclass(frozen=True)
class Difference:
    """Our mean of a metric minus another pipeline's, paired by seed and prompt."""

    mean: Estimate
    p: float  # two-sided, of the null hypothesis that it is zero
    adjusted: float  # the same after Holm over all differences of a page
    better: Literal["higher", "lower"]
    family: int = 1  # how many those are

    @property
    def verdict(self) -> str:
        """Whether we are better or worse, if the adjusted p allows to say so."""
        if self.adjusted >= ERROR:
            return UNSURE
        return BETTER if (self.mean.mean > 0) == (self.better == "higher") else WORSE

    @property
    def sure(self) -> bool:
        """Whether it is not zero, by the adjusted p."""
        return self.verdict != UNSURE

    @property
    def points(self) -> str:
        """A difference of shares in points of 100, with its interval."""
        return f"{100 * self.mean.mean:+.1f} [{100 * self.mean.low:+.1f}, {100 * self.mean.high:+.1f}]"

    def reversed(self) -> "Difference":
        """The same difference as the other pipeline sees it."""
        return replace(self, mean=Estimate(-self.mean.mean, -self.mean.high, -self.mean.low, self.mean.spread))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self.mean) | {"p": self.p, "adjusted": self.adjusted, "verdict": self.verdict}


def differ(
    ours: np.ndarray,
    theirs: np.ndarray,
    clusters: np.ndarray | None,
    better: Literal["higher", "lower"],
    shares: bool = False,
) -> Difference:
    """Compare scores of the same seeds and prompts; `shares` are numbers between 0 and 1.

    Scores have shape (seeds, prompts) or (seeds, prompts, samples). The tests are those of a win rate: with one seed
    signs are flipped over clusters, with several it is the t test in which seeds vary too.
    """
    gaps = over_samples(ours) - over_samples(theirs)
    if shares:  # (1 + gap) / 2 lies between 0 and 1, so its interval leaves a doubt where all prompts agree
        found = compare_points((1 + gaps) / 2, clusters)
        low, middle, high = (2 * rate - 1 for rate in (found.rate.low, found.rate.mean, found.rate.high))
        spread = None if found.rate.spread is None else 2 * found.rate.spread
        return Difference(Estimate(middle, low, high, spread), found.p, found.p, better)
    several, mean = len(gaps) > 1, float(gaps.mean())
    p = variance(gaps, clusters).level(abs(mean)) if several else flip_signs(gaps[0] + 0.5, clusters)
    return Difference(estimate(gaps, clusters), p, p, better)


def holm(found: Sequence[Difference]) -> list[Difference]:
    """Adjust the p of all differences of one family (Holm 1979)."""
    adjusted = step_down([one.p for one in found])
    return [replace(one, adjusted=p, family=len(found)) for one, p in zip(found, adjusted, strict=True)]
