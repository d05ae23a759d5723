"""Lengths in tokens: their distribution, what a limit would truncate or drop, and what padding costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

from recipes.data.columns import IDS
from recipes.data.values import column
from recipes.methods import METHODS

PARTS = ("prompt", "chosen", "rejected")
LIMITS = (256, 512, 1024, 2048, 4096)
PACKED = (4, 8, 16)  # per-device batch sizes for which packing is compared with padding


@dataclass(frozen=True)
class Spread:
    """Quantiles of a column's lengths."""

    median: int
    most: int  # 90%
    nearly_all: int  # 99%
    longest: int


@dataclass(frozen=True)
class Bias:
    """How often the longer response is the chosen one, without responses of equal length."""

    longer: int
    unequal: int
    low: float  # 95% interval of the share, exact binomial (Clopper-Pearson)
    high: float

    @property
    def words(self) -> str:
        """Return what the interval shows."""
        if not self.unequal:
            return "no responses of different lengths to compare"
        share = f"in {self.longer / self.unequal:.1%} of {self.unequal:,} pairs [{self.low:.1%}, {self.high:.1%}]"
        if self.low > 0.5:
            return f"the longer response is preferred: it is chosen {share}"
        if self.high < 0.5:
            return f"the shorter response is preferred: the longer one is chosen {share}"
        return f"no bias shown: the longer response is chosen {share}"


@dataclass(frozen=True)
class Padding:
    """Tokens of an epoch with this many pairs per device."""

    pairs: int
    padded: int  # computed with both responses of every pair padded to the longest of the batch, as in TRL's ORPO
    needed: int  # in the two dialogues of every pair
    packed: int  # computed with each prompt once and no padding


def sizes(rows: Any) -> np.ndarray:
    """Return the lengths of prompt, chosen and rejected, shape (rows, 3), int64."""
    columns = [np.fromiter(map(len, column(rows, name)), dtype=np.int64) for name in IDS]
    return np.stack(columns, axis=1)


def spread(lengths: np.ndarray) -> Spread:
    """Return the quantiles of lengths; each is a length that occurs."""
    if not len(lengths):
        return Spread(0, 0, 0, 0)
    found = np.quantile(lengths, [0.5, 0.9, 0.99, 1.0], method="higher")
    return Spread(*map(int, found))


def beyond(lengths: Sequence[int]) -> dict[int, float]:
    """Return limit -> the share of longer pairs, from `lengths` before truncation."""
    known = np.fromiter(lengths, dtype=np.int64)
    return {limit: float(np.mean(known > limit)) if len(known) else 0.0 for limit in LIMITS}


def bias(lengths: np.ndarray) -> Bias:
    """Return how often the longer response is chosen, of rows that have both."""
    lengths = lengths[(lengths[:, 1:] > 0).all(axis=1)]
    longer, shorter = (int(np.sum(sign * (lengths[:, 1] - lengths[:, 2]) > 0)) for sign in (1, -1))
    if not longer + shorter:
        return Bias(0, 0, 0.0, 1.0)
    return Bias(longer, longer + shorter, *exact_interval(longer, shorter))


def exact_interval(won: int, lost: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Clopper & Pearson 1934); importing `scipy.stats` for it takes a second."""
    low = float(betaincinv(won, lost + 1, 0.025)) if won else 0.0
    high = float(betaincinv(won + 1, lost, 0.975)) if lost else 1.0
    return low, high


def epoch(lengths: np.ndarray, single: np.ndarray | None = None) -> dict[str, int]:
    """Return method -> tokens that the policy reads in one epoch, without padding; a reference model reads as many.

    Args:
        lengths: of pairs, as `sizes` returns them.
        single: of responses without a partner, which not every method reads.
    """
    found = {}
    for method in METHODS.values():
        rows = lengths if single is None or not method.unpaired else np.concatenate([lengths, single])
        sides = rows[:, 1:] if method.pairs else rows[:, 1:2]
        dialogues = int((sides + rows[:, :1] * (sides > 0)).sum())
        if method.packs and method.answers:
            found[method.label] = dialogues * (1 + method.probe_passes // (method.policy_passes or 1))
    return found


def padding(lengths: np.ndarray, pairs: int) -> Padding:
    """Return the tokens of one epoch in batches of `pairs`, shuffled with a fixed seed."""
    longest = lengths[:, 0] + lengths[:, 1:].max(axis=1)
    longest = np.random.default_rng(0).permutation(longest)
    batches = [longest[start : start + pairs] for start in range(0, len(longest), pairs)]
    padded = sum(2 * len(batch) * int(batch.max()) for batch in batches)
    needed = int(lengths.sum() + lengths[:, 0].sum())
    return Padding(pairs, padded, needed, int(lengths.sum()))
