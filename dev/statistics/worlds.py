"""Made comparisons whose truth is known: what seeds, prompts, clusters and responses add to a score."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import norm

from eval.results.statistics import Comparison, compare, holm
from eval.results.variance import root

# Deviation of what a prompt does to the difference of two pipelines, in units of the responses' noise: of the variance
# of a point a share of 0.3 is then the prompt's (2 / pi arcsin of the correlation of the values), as `planned` assumes.
DIFFICULTY = 0.91


@dataclass(frozen=True)
class World:
    """What is compared; a field that is not named has no effect."""

    seeds: int = 1
    prompts: int = 400  # distinct ones
    seed_points: float = 0  # standard deviation over seeds of a pair's true win rate, in points of 100
    repeated: int = 1  # how often each prompt occurs, always with the same response
    clusters: int | None = None
    by_cluster: float = 0  # deviation of what a cluster does to each model, in units of the responses' noise
    samples: int = 1
    tied: float = 0.2  # share of the prompts on which pipelines of equal worth tie
    shared: float = 0.8  # of the variance of what prompts do to a win: the part that is the same with two models

    @property
    def rows(self) -> np.ndarray | None:
        """The cluster of each row: that of its prompt; None where every row stands alone."""
        if self.clusters is None and self.repeated == 1:
            return None
        of_prompts = np.arange(self.prompts) % (self.clusters or self.prompts)
        return np.repeat(of_prompts, self.repeated)

    def equal_pipelines(self, random: np.random.Generator) -> list[Comparison]:
        """Return the three comparisons of three pipelines that differ by luck alone, after Holm."""
        # The win rate's deviation in points, as one of the score: d P(win) / d difference is 0.3989 / sqrt(2).
        luck = self.seed_points / 100 / 0.3989
        shape = (3, self.seeds, self.prompts, self.samples)
        score = random.normal(size=(1, 1, self.prompts, 1)) + random.normal(size=shape)
        score += luck * random.normal(size=(3, self.seeds, 1, 1))
        if self.clusters:
            each = self.by_cluster * random.normal(size=(3, self.seeds, self.clusters, 1))
            score += each[:, :, np.arange(self.prompts) % self.clusters]
        scores = np.repeat(np.round(2 * score) / 2, self.repeated, axis=2)
        one, two, three = scores
        rows = self.rows
        return holm([compare(one, two, rows), compare(one, three, rows), compare(two, three, rows)])

    def models(self, rates: tuple[float, ...], random: np.random.Generator) -> list[np.ndarray]:
        """Return the points of one pipeline over another with each of several models, whose trainings are unrelated."""
        common = self.difficulty(random)
        mixed = [self.shared**0.5 * common + (1 - self.shared) ** 0.5 * self.difficulty(random) for _ in rates]
        return [self.points(rate, random, easy) for rate, easy in zip(rates, mixed, strict=True)]

    def difficulty(self, random: np.random.Generator) -> np.ndarray:
        """Return what each prompt, or its cluster, does to a win, shape (1, prompts, 1); of variance 1."""
        drawn = random.normal(size=(1, self.clusters or self.prompts, 1))
        return drawn[:, np.arange(self.prompts) % drawn.shape[1]]

    def points(self, rate: float, random: np.random.Generator, easy: np.ndarray | None = None) -> np.ndarray:
        """Return 0, ½ or 1 of shape (seeds, prompts, samples), `rate` on average; near the ends few tie.

        `easy` is what the prompts do, as `difficulty` gives it; by default it is drawn.
        """
        spread = (1 + DIFFICULTY**2) ** 0.5
        luck = self.seed_points / 100 / 0.3989 * spread  # the slope of the win rate, at one half, is a normal density's
        total = (spread**2 + luck**2) ** 0.5
        band = total * norm.ppf(0.5 + min(self.tied, 0.8 * (1 - rate)) / 2)

        value = random.normal(size=(self.seeds, self.prompts, self.samples))
        value += DIFFICULTY * (self.difficulty(random) if easy is None else easy)
        value += luck * random.normal(size=(self.seeds, 1, 1))
        return np.digitize(value + total * middle(rate, band / total), [-band, band]) / 2


@cache
def middle(rate: float, band: float) -> float:
    """Return the mean of a normal value that scores 1 above `band`, 0 below `-band` and else ½: `rate` on average."""

    def excess(mean: float) -> float:
        lost, won = norm.cdf(-band - mean), norm.sf(band - mean)
        return float(won + (1 - won - lost) / 2 - rate)

    return root(excess, -9, 9)
