"""Estimates, tests and verdicts; scores are arrays of shape (seeds, prompts) or (seeds, prompts, samples).

With one seed, what is said holds for these models only and varies over prompts. With several it is said of the method,
on these pairs and this base model, and seeds vary too (`eval.results.variance`). Samples are responses of one model to
one prompt: their points are averaged, and the prompt counts once.

docs/statistics.md shows by simulation how often intervals cover the truth and how often equal pipelines get a verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import bdtr

from eval.results.variance import ERROR, Variance, of_shares, variance

MARGIN = 0.05  # win rates of 45 to 55 % are practically the same
FLIPS = 19_999  # random exchanges of the test of one seed
ROUNDING = 1e-4  # of sums of points in float32: two that are closer are equal
SIGN_TEST, T_TEST = "sign-flip test over prompts", "t test over seeds and prompts"
BETTER, WORSE, SAME, UNSURE = "better", "worse", "practically the same", "not distinguishable"
NONE = "no verdict"
ABSENT = "–"  # where a table has no figure


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts and seeds, its 95 % interval, and how far the seeds' means spread (standard deviation)."""

    mean: float
    low: float
    high: float
    spread: float | None  # None with one seed

    def reversed(self) -> "Estimate":
        """Return the same rate as the other side sees it."""
        return Estimate(1 - self.mean, 1 - self.high, 1 - self.low, self.spread)


@dataclass(frozen=True)
class Comparison:
    """One pipeline against another on the same prompts; rates and shares are between 0 and 1."""

    rate: Estimate  # how often we score higher, a tie counting half
    won: float
    tied: float
    lost: float
    test: str
    p: float  # two-sided, of the null hypothesis that the pipelines are equal
    adjusted: float  # the same after Holm over all pairs of a page's outcome
    p_same: float  # of the null hypothesis that the win rate lies outside one half ± margin (two one-sided tests)
    adjusted_same: float
    margin: float
    variance: Variance  # of the win rate
    from_samples: float | None  # the part of it that more responses a prompt would make smaller; None with one
    family: int = 1  # pairs over which p was adjusted
    silent: bool = False  # whether it gives no verdict: its judge is too weak
    asked: bool = True  # False: another pipeline is what all are tested against, so it gives no verdict either

    @property
    def detectable(self) -> float | None:
        """The distance from one half that the first step of Holm finds with probability 80 %; None: none."""
        return self.variance.detectable(ERROR / self.family)

    @property
    def verdict(self) -> str:
        """What the adjusted p allow to say; a sure difference inside the margin is none in practice."""
        if self.silent or not self.asked:
            return NONE
        if self.adjusted_same < ERROR:
            return SAME
        if self.adjusted < ERROR:
            return BETTER if self.rate.mean > 0.5 else WORSE
        return UNSURE

    def reversed(self) -> "Comparison":
        """The same comparison as the other pipeline sees it."""
        return replace(self, rate=self.rate.reversed(), won=self.lost, lost=self.won)


def estimate(scores: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    """Estimate the mean of numbers of any size, by Student's interval."""
    means = over_samples(scores)
    half = float(variance(means, clusters).half_width(ERROR))
    mean = float(means.mean())
    return Estimate(mean, mean - half, mean + half, spread(means))


def share(scores: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    """Estimate the mean of numbers between 0 and 1, by Wilson's interval: it never leaves them, nor is it ever empty.

    Wilson's interval of a proportion (1927), with the variance of seeds and clusters in the place of the binomial one:
    all rates r with (mean - r)² <= k r (1 - r), k = half-width² / (mean (1 - mean)).
    """
    means = over_samples(scores)
    mean, found = float(means.mean()), of_shares(means, clusters)
    k = float(found.half_width(ERROR)) ** 2 / max(mean * (1 - mean), 0.25 / found.clusters)
    if np.isinf(k):
        return Estimate(mean, 0.0, 1.0, spread(means))
    middle = (mean + k / 2) / (1 + k)
    half = float(np.sqrt(k * mean * (1 - mean) + k**2 / 4)) / (1 + k)
    return Estimate(mean, max(middle - half, 0.0), min(middle + half, 1.0), spread(means))


def spread(scores: np.ndarray) -> float | None:
    """Return the standard deviation of the seeds' means."""
    return float(scores.mean(axis=1).std(ddof=1)) if len(scores) > 1 else None


def over_samples(scores: np.ndarray) -> np.ndarray:
    """Return the mean over samples, shape (seeds, prompts)."""
    return scores.mean(axis=2) if scores.ndim == 3 else scores


def compare(
    ours: np.ndarray, theirs: np.ndarray, clusters: np.ndarray | None = None, margin: float = MARGIN
) -> Comparison:
    """Compare scores of the same seeds and prompts; adjusted values are those of a single pair, see `holm`."""
    return compare_points((ours > theirs) + 0.5 * (ours == theirs), clusters, margin)


def compare_points(points: np.ndarray, clusters: np.ndarray | None = None, margin: float = MARGIN) -> Comparison:
    """Compare two pipelines by our points, shaped as scores are: 1 for a win, 0 for a loss, between them if shared."""
    means = over_samples(points)
    found, distance = of_shares(means, clusters), abs(float(means.mean()) - 0.5)
    test = T_TEST if len(means) > 1 else SIGN_TEST
    p = found.level(distance) if test == T_TEST else flip_signs(means[0], clusters)
    p_same = found.level(margin - distance) / 2 if distance < margin else 1.0
    shares = float((points > 0.5).mean()), float((points == 0.5).mean()), float((points < 0.5).mean())
    verdicts = (test, p, p, p_same, p_same, margin)
    return Comparison(share(points, clusters), *shares, *verdicts, found, from_samples(points))


def from_samples(points: np.ndarray) -> float | None:
    """Return the variance that draws of the same models for the same prompts give the mean; None with one draw."""
    if points.ndim < 3 or points.shape[2] < 2:
        return None
    return float(points.var(axis=2, ddof=1).mean()) / points.size


def flip_signs(points: np.ndarray, clusters: np.ndarray | None = None) -> float:
    """Return the two-sided p of points, shape (prompts,), whose distance from one half is as often plus as minus.

    If two pipelines are equal, exchanging them within a cluster changes nothing. So p is the share of random
    exchanges with a mean as far from one half, exact whatever ties, samples and clusters there are. With one response a
    prompt and one prompt a cluster it is the sign test, and on right and wrong McNemar's.
    """
    sums = np.bincount(np.arange(len(points)) if clusters is None else clusters, points - 0.5)
    decided = sums[sums != 0]
    if len({*np.abs(decided)}) <= 1:
        return sign_test(int((decided > 0).sum()), len(decided))
    flipped = np.abs(random_signs(len(sums)) @ sums.astype(np.float32))
    return float((np.sum(flipped >= abs(sums.sum()) - ROUNDING) + 1) / (FLIPS + 1))


def sign_test(won: int, decided: int) -> float:
    """Return the exact two-sided p of so many wins where either side wins with probability one half."""
    return min(1.0, 2 * float(bdtr(min(won, decided - won), decided, 0.5)))


@lru_cache(maxsize=1)  # of 400 clusters they take 32 MB, and the comparisons of a page have as many
def random_signs(count: int) -> np.ndarray:
    """Return `FLIPS` rows of random signs, always the same ones; float32, shape (flips, clusters)."""
    return np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), (FLIPS, count))


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Adjust the p of all pairs of one family, those of difference and those of sameness (Holm 1979)."""
    adjusted = step_down([found.p for found in comparisons])
    same = step_down([found.p_same for found in comparisons])
    return [
        replace(found, adjusted=p, adjusted_same=p_same, family=len(comparisons))
        for found, p, p_same in zip(comparisons, adjusted, same, strict=True)
    ]


def step_down(levels: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p: the k-th smallest of m counts m - k + 1 times, and none is below a smaller one's."""
    order = np.argsort(levels, kind="stable")
    counted = [(len(order) - rank) * levels[place] for rank, place in enumerate(order)]
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(counted), 1.0)
    return [float(p) for p in adjusted]


def text(value: Estimate | float | str | None, digits: int = 3) -> str:
    """Return one cell: a number, an estimate with its interval, or a dash."""
    if value is None or isinstance(value, str):
        return value or ABSENT
    if isinstance(value, Estimate):
        return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return f"{value:.{digits}f}"
