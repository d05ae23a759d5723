"""Length-controlled win rates: exact where length cannot matter, right where it does, with intervals that hold."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from eval.results.controlled import fit, length_controlled
from eval.results.statistics import share

Arrays = tuple[np.ndarray, np.ndarray]


def made(
    random: np.random.Generator,
    a: float,
    b: float,
    seeds: int = 1,
    clusters: int = 200,
    alike: int = 1,
    luck: float = 0,
) -> Arrays:
    """Points and length differences of a known model; each cluster's prompts all have the same of both."""
    longer = random.normal(3, 8, (seeds, clusters)).round()
    ours = expit(a + luck * random.normal(size=(seeds, 1)) + b * np.tanh(longer / longer.std()))
    points = (random.random(ours.shape) < ours).astype(float)
    return np.repeat(points, alike, axis=1), np.repeat(longer, alike, axis=1)


@pytest.mark.parametrize("tied", [0.0, 0.3])
def test_between_responses_of_the_same_length_it_is_the_win_rate(tied: float) -> None:
    random = np.random.default_rng(0)
    points = np.where(random.random((3, 80)) < tied, 0.5, random.random((3, 80)) < 0.7)
    clusters = np.arange(80) // 4
    for longer in (np.zeros((3, 80)), np.full((3, 80), 5.0)):
        found, plain = length_controlled(points, longer, clusters), share(points, clusters)
        assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_the_fit_is_where_the_likelihoods_gradient_is_zero() -> None:
    points, longer = made(np.random.default_rng(1), 0.4, 1.0)
    x = np.tanh(longer / longer.std())
    a, b = fit(points.ravel(), x.ravel())
    wrong = expit(a + b * x) - points
    assert abs(wrong.sum()) < 1e-4 and (wrong * x).sum() + 0.01 * b == pytest.approx(0, abs=1e-4)
    assert (a, b) == pytest.approx((0.4, 1.0), abs=0.8)


def test_what_wins_by_its_length_alone_does_not_win() -> None:
    points, longer = made(np.random.default_rng(2), 0.0, 2.0, clusters=4000)
    assert share(points).low > 0.55, "it is longer"
    found = length_controlled(points, longer)
    assert found.low < 0.5 < found.high


def test_the_other_side_sees_the_rest() -> None:
    points, longer = made(np.random.default_rng(3), 0.5, -1.0)
    ours, theirs = length_controlled(points, longer), length_controlled(1 - points, -longer)
    assert ours.mean == pytest.approx(1 - theirs.mean, abs=1e-6) and ours.low == pytest.approx(
        1 - theirs.high, abs=1e-4
    )
    assert ours.reversed().mean == pytest.approx(theirs.mean, abs=1e-6)


def test_where_all_is_won_or_length_decides_alone_it_is_finite() -> None:
    longer = np.random.default_rng(4).normal(0, 5, (1, 60))
    won = length_controlled(np.ones((1, 60)), longer)
    assert won.mean > 0.999 and 0.9 < won.low < 1 and won.high == pytest.approx(1)
    decided = length_controlled((longer > 0).astype(float), longer)
    assert decided.low < 0.5 < decided.high and np.isfinite([decided.low, decided.high]).all()


WORLDS = 300


@pytest.mark.parametrize(
    "world", [{}, {"clusters": 50, "alike": 4}, {"seeds": 3, "clusters": 100, "luck": 0.15}], ids=str
)
def test_the_interval_covers_the_truth(world: dict[str, Any]) -> None:
    """In 95 of 100 worlds, with clusters of equal prompts and with seeds that differ; four deviations for luck."""
    random, rate = np.random.default_rng(5), expit(0.5)
    clusters = np.repeat(np.arange(world.get("clusters", 200)), world.get("alike", 1))
    held = naive = 0
    for _ in range(WORLDS):
        points, longer = made(random, 0.5, 1.0, **world)
        found = length_controlled(points, longer, clusters)
        held += found.low <= rate <= found.high
        alone = length_controlled(points, longer)
        naive += alone.low <= rate <= alone.high
    assert held / WORLDS > 0.95 - 4 * (0.05 * 0.95 / WORLDS) ** 0.5
    if "alike" in world:
        assert naive / WORLDS < 0.85, "prompts that are alike count once"
