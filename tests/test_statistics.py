"""Intervals cover what they promise, verdicts err as rarely as they say, and forecasts come true."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from dev.statistics.studies import between_models, coverage, errors, power
from dev.statistics.worlds import World
from eval.results.statistics import (
    BETTER,
    SAME,
    SIGN_TEST,
    UNSURE,
    WORSE,
    Comparison,
    Estimate,
    compare,
    compare_points,
    estimate,
    holm,
    share,
)
from eval.results.variance import Variance, foreseen, variance


def made(p: float, mean: float = 0.6, same: float = 1.0) -> Comparison:
    nothing = Variance(np.zeros(()), np.zeros(()), 1, 50)
    rate = Estimate(mean, 0, 1, None)
    return Comparison(rate, mean, 0, 1 - mean, SIGN_TEST, p, p, same, same, 0.05, nothing, None)


def points(random: np.random.Generator, rate: float, *shape: int) -> np.ndarray:
    return (random.random(shape) < rate).astype(float)


def test_a_tie_counts_half_and_the_other_side_gets_the_rest() -> None:
    ours, theirs = np.array([[3.0, 1.0, 2.0, 2.0]]), np.array([[1.0, 3.0, 2.0, 1.0]])
    found = compare(ours, theirs)
    assert found.rate.mean == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert (found.won, found.tied, found.lost) == (0.5, 0.25, 0.25)
    assert found.p == pytest.approx(1.0), "2 to 1 of three that differ: P(at least 2 or at most 1 of 3) = 1"
    back = compare(theirs, ours)
    assert (back.rate.mean, back.won, back.p) == (1 - found.rate.mean, found.lost, found.p)
    assert found.reversed().rate.mean == back.rate.mean and found.reversed().won == back.won


def test_on_right_and_wrong_the_test_of_one_seed_is_mcnemars() -> None:
    """5 discordant answers, all ours: p = 2 / 2^5, whatever the 95 concordant ones are."""
    ours, theirs = np.zeros((1, 100)), np.zeros((1, 100))
    ours[0, :50], theirs[0, 5:50] = 1, 1
    assert compare(ours, theirs).p == pytest.approx(2 / 2**5)
    assert compare(ours, theirs, np.arange(100) // 5).p == 1.0, "one cluster differs"


def test_clusters_of_one_prompt_change_nothing_and_samples_are_averaged() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=(2, 3, 50))
    assert compare(ours, theirs, np.arange(50)).p == pytest.approx(compare(ours, theirs).p)
    draws = random.normal(size=(2, 1, 50, 4))
    points = (draws[0] > draws[1]).mean(axis=2)
    assert compare(*draws).rate == share(points), "a prompt counts once"
    wins = (draws[0] > draws[1]).astype(float)
    drawn = wins.var(axis=2, ddof=1).mean() / wins.size  # of one draw's variance, a share of the mean's
    assert compare(*draws).from_samples == pytest.approx(drawn) and compare(ours, theirs).from_samples is None


def test_the_test_with_samples_is_the_exact_one_over_all_exchanges() -> None:
    """Of the 2^8 ways to exchange two pipelines on 8 prompts the share that is at least as far from one half."""
    random = np.random.default_rng(3)
    won = random.integers(0, 5, size=8) / 4
    draws = np.array([[np.arange(4) < 4 * rate for rate in won]], dtype=float)
    signs = np.array([[1 - 2 * (number >> bit & 1) for bit in range(8)] for number in range(256)])
    exact = np.mean(np.abs(signs @ (won - 0.5)) >= abs((won - 0.5).sum()) - 1e-9)
    assert compare(draws, np.full_like(draws, 0.5)).p == pytest.approx(exact, abs=4 * (exact / 19999) ** 0.5)


@pytest.mark.parametrize("seeds, count", [(1, 50), (1, 400), (3, 50), (3, 400)])
def test_an_interval_is_never_empty(seeds: int, count: int) -> None:
    """Of one seed the lower end is as far from 1 as the exact one of Clopper and Pearson, to within a tenth of that."""
    found = share(np.ones((seeds, count)))
    exact = binomtest(count, count).proportion_ci(0.95, method="exact").low
    assert found.high == 1.0
    assert found.low < exact if seeds > 1 else 1 - found.low == pytest.approx(1 - exact, rel=0.1)
    tied = share(np.full((seeds, count), 0.5))
    assert tied.low < 0.5 < tied.high


def test_one_prompt_or_one_cluster_says_nothing() -> None:
    for scores, clusters in ((np.array([[1.0]]), None), (np.array([[1.0, 0.0, 1.0]]), np.zeros(3, int))):
        found = share(scores, clusters)
        assert (found.low, found.high) == (0, 1)
        compared = compare_points(scores, clusters)
        assert (compared.p, compared.verdict, compared.detectable) == (1, "not distinguishable", None)


def test_a_mean_of_one_seed_has_students_interval() -> None:
    scores = np.random.default_rng(0).normal(size=(1, 40))
    interval = ttest_1samp(scores[0], 0).confidence_interval(0.95)
    assert (estimate(scores).low, estimate(scores).high) == pytest.approx((interval.low, interval.high))
    assert estimate(scores).spread is None


def test_seeds_alone_have_students_interval_of_their_means() -> None:
    apart = np.tile(np.array([[-1.0], [0.0], [1.5]]), (1, 50))
    interval = ttest_1samp(apart[:, 0], 0).confidence_interval(0.95)
    assert (estimate(apart).low, estimate(apart).high) == pytest.approx((interval.low, interval.high))
    assert estimate(apart).spread == pytest.approx(apart[:, 0].std(ddof=1))


def test_the_variance_is_that_of_the_crossed_analysis_of_variance() -> None:
    """A and B: mean squares of seeds and prompts, R: of the rest; clusters of equal size: that of their means."""
    seeds, prompts = 3, 24
    scores = np.random.default_rng(0).normal(size=(seeds, prompts)) + np.random.default_rng(1).normal(size=prompts)
    mean, by_seed, by_prompt = scores.mean(), scores.mean(1, keepdims=True), scores.mean(0, keepdims=True)
    a = prompts * ((by_seed - mean) ** 2).sum() / (seeds - 1)
    b = seeds * ((by_prompt - mean) ** 2).sum() / (prompts - 1)
    r = ((scores - by_seed - by_prompt + mean) ** 2).sum() / (seeds - 1) / (prompts - 1)
    found = variance(scores)
    assert (found.from_seeds, found.from_prompts) == pytest.approx((a / scores.size, (b - r) / scores.size))
    clustered = variance(scores, np.arange(prompts) // 4)
    means = variance(scores.reshape(seeds, 6, 4).mean(axis=2))
    assert (clustered.from_seeds, clustered.from_prompts) == pytest.approx((means.from_seeds, means.from_prompts))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_t_test_is_the_interval_turned_round(seeds: int) -> None:
    """An interval of confidence 1 - p just reaches one half."""
    found = compare(points(np.random.default_rng(seeds), 0.62, seeds, 60), np.full((seeds, 60), 0.5))
    assert 0 < found.p < 1
    assert found.variance.half_width(found.p) == pytest.approx(abs(found.rate.mean - 0.5))


def test_holm_is_its_step_down_rule() -> None:
    """At every level: reject the smallest p while p <= level / (pairs not yet rejected), then stop."""
    random = np.random.default_rng(0)
    for _ in range(50):
        pairs = [made(p, same=same) for p, same in random.random((6, 2)) ** 4]
        found = holm(pairs)
        for level in (0.01, 0.05, 0.2):
            for name in ("p", "p_same"):
                left = sorted(range(6), key=lambda place: getattr(pairs[place], name))
                while left and getattr(pairs[left[0]], name) <= level / len(left):
                    left.pop(0)
                adjusted = [getattr(one, name.replace("p", "adjusted")) for one in found]
                assert set(left) == {place for place in range(6) if adjusted[place] > level}


@pytest.mark.parametrize(
    "p, mean, same, said",
    [
        (0.02, 0.6, 1.0, BETTER),
        (0.02, 0.4, 1.0, WORSE),
        (0.03, 0.6, 1.0, UNSURE),
        (0.9, 0.4, 1.0, UNSURE),
        (0.9, 0.51, 0.02, SAME),
        (1e-6, 0.52, 0.02, SAME),
        (0.9, 0.51, 0.03, UNSURE),
    ],
)
def test_a_verdict_needs_a_small_p_after_holm(p: float, mean: float, same: float, said: str) -> None:
    assert holm([made(p, mean, same), made(0.99)])[0].verdict == said


def test_being_the_same_is_shown_by_two_one_sided_tests() -> None:
    """On 10,000 prompts of which half are won: distance 0.05 from either bound, standard error 0.005."""
    half = np.tile([0.0, 1.0], 5000)[None]
    found = compare(half, np.full_like(half, 0.5))
    against: Any = ttest_1samp(half[0], 0.45, alternative="greater")
    assert found.p_same == pytest.approx(against.pvalue, rel=1e-3, abs=1e-12)
    assert compare(half[:, :100], np.full((1, 100), 0.5)).verdict == UNSURE, "100 prompts cannot show it"
    assert compare(half, np.full_like(half, 0.5), margin=0.005).verdict == UNSURE


def test_a_model_is_practically_the_same_as_itself() -> None:
    for seed in range(40):
        scores = np.random.default_rng(seed).normal(size=(1 + seed % 3, 10 + 10 * seed))
        assert compare(scores, scores).verdict in (SAME, UNSURE) and compare(scores, scores).p == 1.0
    assert compare(scores, scores).verdict == SAME


WORLDS = 800
DEVIATIONS = 4  # what luck may add: a seed is fixed, so a run that passes passes again


def most(share: float) -> float:
    return share + DEVIATIONS * (share * (1 - share) / WORLDS) ** 0.5


@pytest.mark.parametrize(
    "world",
    [
        World(prompts=50),
        World(seeds=3, prompts=100, seed_points=3),
        World(seeds=3, prompts=400, seed_points=8),
        World(seeds=5, prompts=100, seed_points=5),
        World(prompts=50, repeated=4),
        World(prompts=240, clusters=24, by_cluster=0.6),
        World(prompts=60, samples=4),
    ],
    ids=str,
)
def test_equal_pipelines_hardly_ever_get_a_verdict(world: World) -> None:
    """After Holm over three pairs: one in twenty times, and one in a thousand that p is below 0.001."""
    any_verdict, surely = errors(world, WORLDS)
    assert any_verdict < most(0.05) and surely < most(0.001)


@pytest.mark.parametrize("world", [World(prompts=50), World(prompts=400), World(3, 100, 5), World(5, 50, 2)], ids=str)
def test_intervals_cover_the_truth(world: World) -> None:
    found = coverage(world, WORLDS)
    assert min(found) > 0.95 - DEVIATIONS * (0.05 * 0.95 / WORLDS) ** 0.5, found


@pytest.mark.parametrize(
    "world",
    [World(prompts=100), World(3, 100), World(3, 100, 5), World(5, 100, 5), World(1, 240, clusters=60)],
    ids=str,
)
def test_the_difference_of_two_models_is_covered_and_equal_ones_are_rarely_told_apart(world: World) -> None:
    *held, told_apart = between_models(world, WORLDS // 2)
    luck = DEVIATIONS * (0.05 * 0.95 / (WORLDS // 2)) ** 0.5
    assert min(held) > 0.95 - luck and np.mean(held) < 0.985 and told_apart < 0.05 + luck


@pytest.mark.parametrize("world", [World(1, 200, tied=0), World(3, 100, 2, tied=0)], ids=str)
def test_the_forecast_difference_is_found_in_four_of_five_cases(world: World) -> None:
    size, found = power(world, WORLDS)
    assert 0.5 < size < 0.8 and found == pytest.approx(0.8, abs=0.05 + DEVIATIONS * (0.16 / WORLDS) ** 0.5)


def test_more_of_everything_shows_less() -> None:
    sizes = [foreseen(*of, 0.05 / 3) for of in ((1, 100, 1), (1, 200, 1), (1, 200, 4))]
    sizes += [foreseen(*of, 0.05 / 3) for of in ((3, 200, 1), (5, 200, 1), (5, 200, 4))]
    assert None not in sizes and sizes[0] > sizes[1] > sizes[2] and sizes[3] > sizes[4] > sizes[5]  # type: ignore[operator]
    assert foreseen(2, 10, 1, 0.05 / 3) is None
