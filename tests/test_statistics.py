"""Intervals cover what they promise, and verdicts say no more than they allow."""

import numpy as np
import pytest

from eval import statistics
from eval.statistics import Estimate, estimate, verdict, win_rate


def test_a_tie_counts_half_and_the_other_side_gets_the_rest() -> None:
    ours, theirs = np.array([[3.0, 1.0, 2.0, 2.0]]), np.array([[1.0, 3.0, 2.0, 1.0]])
    assert win_rate(ours, theirs).mean == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert win_rate(ours, theirs).mean + win_rate(theirs, ours).mean == pytest.approx(1)


def test_a_constant_has_no_interval() -> None:
    found = estimate(np.full((1, 50), 0.25))
    assert (found.mean, found.low, found.high, found.spread) == (0.25, 0.25, 0.25, None)


def test_seeds_are_averaged_per_prompt_and_spread() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 2.0]])
    assert estimate(scores).mean == 1.0
    assert estimate(scores).spread == pytest.approx(np.std([0.5, 1.5], ddof=1))


@pytest.mark.parametrize(
    "low, high, said",
    [(0.51, 0.6, "better"), (0.4, 0.49, "worse"), (0.5, 0.6, "not distinguishable"), (0.4, 0.6, "not distinguishable")],
)
def test_a_verdict_needs_an_interval_that_leaves_half_out(low: float, high: float, said: str) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, None)) == said


def test_the_interval_covers_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 samples of 200 wins at a true rate of 0.6: 95% +- 4 standard errors of the count, for fewer resamples too."""
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    draws = np.random.default_rng(0).random((400, 1, 200)) < 0.6
    intervals = [estimate(sample.astype(float)) for sample in draws]
    covered = np.mean([found.low <= 0.6 <= found.high for found in intervals])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)
