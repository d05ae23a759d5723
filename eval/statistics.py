"""Intervals and verdicts over prompts, from scipy; scores are arrays of shape (seeds, prompts)."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts, its 95 % interval, and how far the seeds' means spread (standard deviation)."""

    mean: float
    low: float
    high: float
    spread: float | None  # None with one seed


def estimate(scores: np.ndarray) -> Estimate:
    """Estimate the mean score by a percentile bootstrap over prompts; each prompt's score is its mean over seeds."""
    prompts = scores.mean(axis=0)
    result = bootstrap(
        (prompts,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=0
    )
    spread = float(scores.mean(axis=1).std(ddof=1)) if len(scores) > 1 else None
    interval = result.confidence_interval
    return Estimate(float(prompts.mean()), float(interval.low), float(interval.high), spread)


def win_rate(ours: np.ndarray, theirs: np.ndarray) -> Estimate:
    """Estimate how often we score higher on the same prompt, a tie counting half (a paired bootstrap over prompts)."""
    return estimate((ours > theirs) + 0.5 * (ours == theirs))


def verdict(rate: Estimate) -> str:
    """Say what a win rate's interval allows to say."""
    if rate.low > 0.5:
        return "better"
    return "worse" if rate.high < 0.5 else "not distinguishable"
