"""How sure a mean over seeds and prompts is, and which difference could have been found.

Seeds and prompts are crossed random effects. Prompts that belong together (the pairs of one prompt, the dialogues of
one first turn) form a cluster; clusters, not prompts, are what varies independently. Arrays have shape
(…, seeds, prompts); `clusters` has the number of each prompt's cluster, 0 to C - 1.

With S seeds and clusters of one prompt this is the analysis of variance of a crossed design: a mean's half-width is
`sqrt((t(S-1)² A + t(P-1)² max(B - R, 0)) / (S P))` with the mean squares A of seeds, B of prompts and R of the rest.
The seeds count always. A rule that lets them count only where they look different forgets them in one comparison of
five where they do matter, and then a p below 0.001 is found up to seventy times too often.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import chdtri, ndtr, stdtrit

ERROR = 0.05  # of a verdict; intervals cover the truth with probability 1 - ERROR
POWER = 0.8
LEAST = 1e-12  # no p is smaller
# What is assumed before anything was measured: seeds move a win rate by 2 points (standard deviation), and of the
# variance of a point 0.3 is the prompt's, whatever seed and draw.
SEED_DEVIATION, OF_PROMPTS = 0.02, 0.3


@dataclass(frozen=True)
class Variance:
    """The variance of a mean over seeds and prompts, in its parts; floats, or arrays over worlds."""

    from_seeds: np.ndarray  # 0 with one seed; else it holds what seeds and prompts do to one another, too
    from_prompts: np.ndarray
    seeds: int
    clusters: int

    def half_width(self, level: float) -> np.ndarray:
        """Return how far a two-sided interval reaches that errs with probability `level`."""
        prompts = quantile(level, self.clusters - 1) ** 2 * self.from_prompts
        seeds = quantile(level, self.seeds - 1) ** 2 * self.from_seeds if self.seeds > 1 else 0
        return (seeds + prompts) ** 0.5

    def level(self, distance: float) -> float:
        """Return the level at which the half-width is `distance`: the two-sided p of a mean so far from the null."""
        if distance <= 0 or self.clusters < 2:
            return 1.0

        def excess(level: float) -> float:
            return float(self.half_width(level)) - distance

        return LEAST if excess(LEAST) < 0 else root(excess, LEAST, 1)

    def power(self, distance: float, level: float) -> float:
        """Return how probably a test at `level` finds a mean that lies so far from the null.

        How much the seeds seem to vary is itself a draw.
        """
        seen = replace(self, from_seeds=self.from_seeds * seen_variances(self.seeds)).half_width(level)
        return float(ndtr((distance - seen) / np.sqrt(self.from_seeds + self.from_prompts)).mean())

    def detectable(self, level: float) -> float | None:
        """Return the true distance from the null that a test at `level` finds with probability `POWER`; None: none."""
        known = 0 < self.from_seeds + self.from_prompts < np.inf
        return least_found(lambda distance: self.power(distance, level)) if known else None


def least_found(power: Callable[[float], float]) -> float | None:
    """Return the distance of a win rate from one half that is found with probability `POWER`; None: none is."""
    return root(lambda distance: power(distance) - POWER, 0, 0.5) if power(0.5) > POWER else None


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function that changes its sign between `low` and `high` is zero (Brent's method)."""
    from scipy.optimize import root_scalar  # takes half a second, and most commands need no root

    return float(root_scalar(function, bracket=(low, high)).root)


@cache
def seen_variances(seeds: int) -> np.ndarray:
    """Return 200 variances that seeds may show where the true one is 1, equally probable: chi-square over S - 1."""
    freedom = max(seeds - 1, 1)
    return chdtri(freedom, (np.arange(200) + 0.5) / 200) / freedom


def quantile(level: float, freedom: int) -> float:
    """Return Student's t of a two-sided test."""
    return -float(stdtrit(max(freedom, 1), level / 2))


def variance(scores: np.ndarray, clusters: np.ndarray | None = None) -> Variance:
    """Return the variance of the grand mean of scores of shape (…, seeds, prompts), clustered by prompts.

    One prompt, or one cluster, has an unknown variance: it is infinite.
    """
    seeds, prompts = scores.shape[-2:]
    members = None if clusters is None else np.eye(int(clusters.max()) + 1)[clusters]  # (prompts, clusters)
    count = prompts if members is None else members.shape[1]
    mean = scores.mean((-2, -1), keepdims=True)
    by_seed, by_prompt = (scores.mean(axis, keepdims=True) - mean for axis in (-1, -2))
    scale = count / (count - 1) / prompts**2 if count > 1 else 1.0
    of_prompts = scale * (clustered(by_prompt, members) ** 2).sum((-2, -1))
    if count < 2:
        of_prompts = np.full_like(of_prompts, np.inf)
    if seeds == 1:
        return Variance(np.zeros_like(of_prompts), of_prompts, 1, count)
    of_seeds = (by_seed**2).sum((-2, -1)) / (seeds - 1) / seeds
    left = clustered(scores - mean - by_seed - by_prompt, members)
    rest = scale * (left**2).sum((-2, -1)) / (seeds - 1) / seeds
    return Variance(of_seeds, np.maximum(of_prompts - rest, 0), seeds, count)


def clustered(values: np.ndarray, members: np.ndarray | None) -> np.ndarray:
    """Return the sums over the prompts of each cluster."""
    return values if members is None else values @ members


def of_shares(shares: np.ndarray, clusters: np.ndarray | None = None) -> Variance:
    """Return the variance of a mean of numbers between 0 and 1."""
    return doubted(variance(shares, clusters))


def doubted(found: Variance) -> Variance:
    """Return the variance of a share: never less than if one cluster more had differed.

    So three seeds that agree, or prompts that were all won, leave a doubt of the size that an exact interval has.
    """
    least = 0.25 / found.clusters**2
    seeds = np.maximum(found.from_seeds, least / found.seeds) if found.seeds > 1 else found.from_seeds
    return replace(found, from_seeds=seeds, from_prompts=np.maximum(found.from_prompts, least))


def planned(seeds: int, prompts: int, samples: int = 1, rate: float = 0.5) -> Variance:
    """Return the variance that a win rate of `rate` is expected to have, if no two responses tie.

    A rate far from one half varies less. Not so with one seed: its test takes the variance of equal pipelines.
    """
    point = 0.25 if seeds == 1 else rate * (1 - rate)
    draws, of_prompts = point * (1 - OF_PROMPTS) / samples / prompts, point * OF_PROMPTS / prompts
    if seeds == 1:
        return Variance(np.zeros(()), np.asarray(of_prompts + draws), 1, prompts)
    return doubted(Variance(np.asarray((SEED_DEVIATION**2 + draws) / seeds), np.asarray(of_prompts), seeds, prompts))


def foreseen(seeds: int, prompts: int, samples: int, level: float) -> float | None:
    """Return the distance from one half at which a win rate will be found with probability `POWER`; None: at none."""
    return least_found(lambda distance: planned(seeds, prompts, samples, 0.5 + distance).power(distance, level))
