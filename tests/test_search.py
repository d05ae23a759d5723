"""The search of `tune=`: which trials are asked for, when ranges are widened, and what is chosen."""

import math
from collections.abc import Callable

import pytest

from launch.tune import rounds
from launch.tuning.search import Search
from launch.tuning.space import Range, spread
from recipes.config import UserError


def search(score: Callable[[dict[str, float]], float], trials: int = 12, done: int = 12) -> Search:
    """A search over a rate and whole epochs whose first `done` trials were scored."""
    space = {"orpo.learning_rate": Range(1e-4, 1e-2), "orpo.num_train_epochs": Range(1, 4, whole=True)}
    found = Search("orpo", space, {"orpo.learning_rate": 1e-3, "orpo.num_train_epochs": 1}, trials)
    for number in range(done):
        found.tell(number, score(found.ask()))
    return found


def params(found: Search) -> list[dict[str, float]]:
    """The values of every trial that was asked for."""
    return [trial.params for trial in found.asked]


def far(values: dict[str, float]) -> float:
    """Best beyond the range's upper end."""
    return values["orpo.learning_rate"]


def inside(values: dict[str, float]) -> float:
    return -((math.log10(values["orpo.learning_rate"]) + 3.2) ** 2) - abs(values["orpo.num_train_epochs"] - 2)


def test_the_first_trial_is_as_configured_and_all_lie_in_their_ranges() -> None:
    tried = params(search(inside))
    assert tried[0] == {"orpo.learning_rate": 1e-3, "orpo.num_train_epochs": 1}
    assert all(1e-4 <= values["orpo.learning_rate"] <= 1e-2 for values in tried)
    assert {values["orpo.num_train_epochs"] for values in tried} <= {1, 2, 3, 4}
    assert len({values["orpo.learning_rate"] for values in tried}) == 12


def test_the_first_half_covers_every_range() -> None:
    """Of 8 points of a Sobol sequence each lies in an eighth of its own; whole numbers come equally often."""
    space = {"a.rate": Range(1e-4, 1e-2), "b.beta": Range(0.1, 10), "c.epochs": Range(1, 4, whole=True)}
    points = spread(space, 8)
    for option in ("a.rate", "b.beta"):
        low, high = space[option].low, space[option].high
        strips = [math.floor(8 * math.log(point[option] / low) / math.log(high / low)) for point in points]
        assert sorted(strips) == [*range(8)]
    assert sorted(point["c.epochs"] for point in points) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert spread(space, 8) == points and len(spread(space, 5)) == 5 and spread(space, 0) == []


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    whole, half = search(inside), search(inside, done=5)
    assert params(half) == params(whole)[:5]
    for number in range(5, 12):
        half.tell(number, inside(half.ask()))
    assert params(half) == params(whole)


def test_the_best_trial_is_chosen_and_failed_ones_are_not() -> None:
    def failing(values: dict[str, float]) -> float:
        return math.nan if values["orpo.num_train_epochs"] > 1 else inside(values)

    found = search(failing)
    assert found.best and found.best["orpo.num_train_epochs"] == 1
    with pytest.raises(UserError, match="all 12 trials of orpo failed"):
        search(lambda _: math.nan).found()


def test_a_range_is_widened_once_at_an_edge_and_a_best_at_the_new_edge_is_told() -> None:
    early, late = search(far, trials=40, done=20), search(far, trials=40, done=40)
    assert early.space["orpo.learning_rate"] == Range(1e-4, 1e-2)
    widened = late.space["orpo.learning_rate"]
    assert widened.low == 1e-4 and widened.high == pytest.approx(1e-2 * math.sqrt(1e-2 / 1e-4))
    assert late.best and late.best["orpo.learning_rate"] > 1e-2
    assert "orpo.learning_rate" in late.found()["at_edge"]
    kept = search(inside, trials=40, done=40)
    assert kept.space["orpo.learning_rate"] == Range(1e-4, 1e-2)
    assert "orpo.learning_rate" not in kept.found()["at_edge"]


@pytest.mark.parametrize("trials", [4, 6, 8, 10, 16])
def test_the_trials_after_the_widening_go_beyond_the_edge(trials: int) -> None:
    """As `tune` asks: a round together, and the first half's results are reported before the second is asked for."""
    space = {"orpo.learning_rate": Range(1e-4, 1e-2)}
    found = Search("orpo", space, {"orpo.learning_rate": 9.9e-3}, trials)
    for numbers in rounds(trials):
        asked = [found.ask() for _ in numbers]
        for number, values in zip(numbers, asked, strict=True):
            found.tell(number, far(values))
    tried = [values["orpo.learning_rate"] for values in params(found)]
    assert max(tried[: trials // 2]) > 9e-3, "configured at the edge, and best there"
    assert found.space["orpo.learning_rate"].high == pytest.approx(1e-1)
    beyond = max(tried[trials // 2 :]) > 1e-2
    assert beyond or trials < 8, "of two trials one may be drawn below"
    assert found.found()["at_edge"] == (["orpo.learning_rate"] if not beyond or max(tried) > 0.05 else [])


@pytest.mark.parametrize("trials", range(1, 24))
def test_rounds_have_every_trial_once_and_one_ends_half_way(trials: int) -> None:
    found = [[*numbers] for numbers in rounds(trials)]
    assert [number for numbers in found for number in numbers] == [*range(trials)]
    assert all(numbers[-1] < trials // 2 or numbers[0] >= trials // 2 for numbers in found) and len(found) <= 5


@pytest.mark.parametrize(("value", "side"), [(1.0, -1), (1.5, -1), (3.0, 0), (10.0, 0), (70.0, 1), (100.0, 1)])
def test_an_edge_is_a_tenth_of_a_range(value: float, side: int) -> None:
    assert Range(1, 100).edge(value) == side


def test_less_than_one_epoch_is_no_edge() -> None:
    epochs = Range(1, 4, whole=True)
    assert [epochs.edge(value) for value in (1, 2, 3, 4)] == [0, 0, 0, 1]
    assert epochs.widened(1) == Range(1, 8, whole=True)
    wide = Range(1, 23, whole=True)
    assert [wide.edge(value) for value in (1, 5, 22, 23)] == [0, 0, 1, 1], "22 of 23 is as near as 9.6 of 10"
    assert Range(2, 8, whole=True).edge(2) == -1
