"""What is simulated: errors among equal pipelines, coverage of intervals, and power against its forecast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dev.statistics.worlds import World
from eval.results.differences import differ
from eval.results.statistics import BETTER, WORSE, compare, share
from eval.results.variance import ERROR, foreseen

RATES = (0.5, 0.6, 0.75, 0.85, 0.95)
PAIRS = 3  # of three pipelines
APART = ((0.6, 0.6), (0.75, 0.6), (0.5, 0.9))  # win rates with one model and with another


@dataclass(frozen=True)
class Study:
    """A table of the page: a figure or more for each world."""

    name: str
    head: tuple[str, ...]
    cases: Sequence[World]
    figures: Callable[[World, int], list[float]]

    def line(self, case: World, worlds: int) -> str:
        """Return a world's line of the table."""
        return (
            f"| {described(case)} | " + " | ".join(f"{100 * value:.1f}" for value in self.figures(case, worlds)) + " |"
        )


def described(world: World) -> str:
    """Say what distinguishes a world."""
    said = [f"{world.seeds} seed{'s' * (world.seeds > 1)}", f"{world.prompts} prompts"]
    said += [f"seeds differ by {world.seed_points:g} points"] * (world.seeds > 1)
    said += [f"each prompt {world.repeated} times"] * (world.repeated > 1)
    effect = f", effect {world.by_cluster:g}" if world.by_cluster else ""
    said += [f"{world.clusters} clusters{effect}"] * bool(world.clusters)
    said += [f"{world.samples} responses a prompt"] * (world.samples > 1)
    return ", ".join(said)


def errors(world: World, worlds: int) -> list[float]:
    """Return how often three equal pipelines get any verdict, and one with p < 0.001; of 1."""
    random = np.random.default_rng(0)
    told_apart = surely = 0
    for _ in range(worlds):
        found = world.equal_pipelines(random)
        told_apart += any(one.verdict in (BETTER, WORSE) for one in found)
        surely += any(one.adjusted < 0.001 for one in found)
    return [told_apart / worlds, surely / worlds]


def coverage(world: World, worlds: int) -> list[float]:
    """Return how often the interval of a win rate holds the true one, at each of `RATES`."""
    random = np.random.default_rng(0)

    def covers(rate: float) -> bool:
        found = share(world.points(rate, random))
        return found.low <= rate <= found.high

    return [float(np.mean([covers(rate) for _ in range(worlds)])) for rate in RATES]


def between_models(world: World, worlds: int) -> list[float]:
    """Return how often the interval of the difference of two models' win rates holds the true one, for each of `APART`.

    Last, how often the first two, which are equal, are told apart.
    """
    random = np.random.default_rng(0)
    clusters, held, sure = world.rows, [], []
    for one, other in APART:
        drawn = (world.models((one, other), random) for _ in range(worlds))
        found = [differ(first, second, clusters, "higher", shares=True) for first, second in drawn]
        held.append(float(np.mean([each.mean.low <= one - other <= each.mean.high for each in found])))
        sure.append(float(np.mean([each.sure for each in found])))
    return [*held, sure[0]]


def power(world: World, worlds: int) -> list[float]:
    """Return the win rate that is forecast to be found with probability 80 %, and how often it is."""
    random = np.random.default_rng(0)
    size = foreseen(world.seeds, world.prompts, world.samples, ERROR / PAIRS)
    if size is None:
        return [float("nan"), float("nan")]
    half = np.full((world.seeds, world.prompts, world.samples), 0.5)
    found = [compare(world.points(0.5 + size, random), half).p < ERROR / PAIRS for _ in range(worlds)]
    return [0.5 + size, float(np.mean(found))]


def worlds(**ranges: tuple[Any, ...]) -> list[World]:
    """Return a world for every combination of values."""
    return [World(**dict(zip(ranges, values, strict=True))) for values in product(*ranges.values())]


PROMPTS = (50, 100, 400)
STUDIES = (
    Study(
        "errors",
        ("any verdict", "p < 0.001"),
        [
            *worlds(seeds=(1,), prompts=PROMPTS),
            *worlds(seeds=(3, 5), prompts=PROMPTS, seed_points=(0, 2, 3, 5, 8)),
            *worlds(seeds=(1, 3), prompts=(100,), repeated=(2, 4)),
            *worlds(seeds=(1, 3), clusters=(24, 120), by_cluster=(0.3, 0.6)),
            *worlds(seeds=(1, 3), prompts=(100,), samples=(4,)),
        ],
        errors,
    ),
    Study(
        "coverage",
        tuple(f"at {100 * rate:.0f}%" for rate in RATES),
        [*worlds(seeds=(1,), prompts=PROMPTS), *worlds(seeds=(3, 5), prompts=PROMPTS, seed_points=(0, 2, 5))],
        coverage,
    ),
    Study(
        "between_models",
        (*(f"{100 * one:.0f}% and {100 * other:.0f}%" for one, other in APART), "told apart"),
        [
            *worlds(seeds=(1,), prompts=PROMPTS),
            *worlds(seeds=(3, 5), prompts=PROMPTS, seed_points=(0, 2, 5)),
            *worlds(seeds=(1, 3), clusters=(24, 120)),
        ],
        between_models,
    ),
    Study(
        "power",
        ("win rate", "found"),
        [
            *worlds(seeds=(1,), prompts=(100, 200, 400), samples=(1, 4), tied=(0.0,)),
            *worlds(seeds=(3, 5), prompts=(100, 200, 400), samples=(1, 4), seed_points=(2,), tied=(0.0,)),
        ],
        power,
    ),
)
