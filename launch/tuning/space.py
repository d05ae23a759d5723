"""What `tune=` tries: the range of each option of a pipeline's stages, from conf/tune/NAME.yaml."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from scipy.stats import qmc

from launch.config.errors import CONF
from launch.config.schema import Config
from recipes.config import UserError

EDGE = 0.1  # the share of a range, on a logarithmic scale, that is its edge
CONFIGURED = "configured"


@dataclass(frozen=True)
class Range:
    """The values of an option, spread on a logarithmic scale."""

    low: float
    high: float
    whole: bool = False  # whole numbers, at least 1

    def at(self, part: float) -> float:
        """Return the value so far along the range, from 0 to 1; a whole one has as much room as any other."""
        if self.whole:
            return round(self.low) + math.floor(part * (round(self.high) - round(self.low) + 1))
        return self.low * (self.high / self.low) ** part

    def edge(self, value: float) -> int:
        """Return -1 where a value lies at the lower edge, 1 at the upper one, else 0."""
        place = math.log(value / self.low) / math.log(self.high / self.low)
        if self.whole and value == 1:
            return 0  # there is no lower one
        return 1 if place > 1 - EDGE else -1 if place < EDGE else 0

    def end(self, side: int) -> float:
        """Return the lower end for side -1, the upper one for side 1."""
        return self.low if side < 0 else self.high

    def widened(self, side: int) -> "Range":
        """Return the range with half as much again on one side, or itself for side 0."""
        more = math.sqrt(self.high / self.low)
        low = self.low / more if side < 0 else self.low
        high = self.high * more if side > 0 else self.high
        return whole(low, high) if self.whole else Range(low, high)


def whole(low: float, high: float) -> Range:
    """Return a range of at least two whole numbers, from 1 on."""
    least = max(1, round(low))
    return Range(least, max(least + 1, round(high)), True)


Space = dict[str, Range]  # option, such as dpo.beta -> its values


def space_of(config: Config, pipeline: str, fixed: set[str]) -> Space:
    """Return what is tried for a pipeline: the ranges of all its stages, without the options that are `fixed`.

    Raises:
        UserError: a file of conf/tune is wrong, or nothing is left to tune.
    """
    own = config.of(pipeline).options
    found = {}
    for stage in dict.fromkeys(config.pipelines[pipeline]):
        path = CONF / "tune" / f"{stage}.yaml"
        for name, given in (yaml.safe_load(path.read_text()) if path.is_file() else {}).items():
            option = f"{stage}.{name}"
            if option not in fixed:
                found[option] = read_range(path, name, given, own[stage])
    if not found:
        raise UserError(f"tune: nothing is left to tune for {pipeline}: its options are given, or conf/tune has none")
    return found


def read_range(path: Path, name: str, given: Any, options: dict[str, Any]) -> Range:
    """Return the range that a file gives an option; with `times: configured` it multiplies the option's value.

    Raises:
        UserError: it is no range, or of no option.
    """
    right = isinstance(given, dict) and {"low", "high"} <= given.keys() <= {"low", "high", "whole", "times"}
    if name not in options or not right or given.get("times") not in (None, CONFIGURED):
        raise UserError(
            f"{path}: {name} must be an option with low, high and, if wanted, times: configured or whole: true"
        )
    scale = options[name] if given.get("times") else 1
    low, high = given["low"] * scale, given["high"] * scale
    if not 0 < low < high:
        raise UserError(f"{path}: {name}: low must be above 0 and below high (got {low} and {high})")
    return whole(low, high) if given.get("whole") else Range(low, high)


def spread(space: Space, count: int) -> list[dict[str, float]]:
    """Return values that cover a space evenly: the first points of a scrambled Sobol sequence, the same every time."""
    sequence = qmc.Sobol(len(space), rng=0)
    points = sequence.random_base2(max(count - 1, 0).bit_length())[:count]
    return [
        {option: values.at(part) for (option, values), part in zip(space.items(), point, strict=True)}
        for point in points
    ]


def edges(space: Space, best: dict[str, float]) -> dict[str, int]:
    """Return at which edge of its range each of the best values lies: -1, 1, or 0 for none."""
    return {option: values.edge(best[option]) for option, values in space.items()}


def widen(space: Space, sides: dict[str, int]) -> Space:
    """Return a space that reaches beyond some edges."""
    return {option: values.widened(sides.get(option, 0)) for option, values in space.items()}


def at_edge(space: Space, best: dict[str, float], untried: Space) -> list[str]:
    """Return the options whose best value lies at an edge of what was tried.

    `untried` has the first ranges of those options whose widened range no trial went into.
    """
    return [option for option, side in edges(space | untried, best).items() if side]


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Return values of three significant digits, as one would type them."""
    return {option: value if isinstance(value, int) else float(f"{value:.3g}") for option, value in values.items()}


def with_configured(space: Space, tried: dict[str, float]) -> Space:
    """Return a space that holds a value that was configured outside of it; see `configurable`."""
    return {
        option: replace(values, low=min(values.low, tried[option]), high=max(values.high, tried[option]))
        for option, values in space.items()
    }


def configurable(space: Space, values: dict[str, Any]) -> dict[str, float]:
    """Return configured values as a trial can have them: of a whole option the nearest whole number, from 1 on."""
    return {option: max(1, round(values[option])) if space[option].whole else values[option] for option in space}
