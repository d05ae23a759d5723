"""The settings of a sweep: options against outcomes, and the best setting of each method under equal budgets."""

from collections.abc import Sequence
from math import comb

from matplotlib.axes import Axes

from eval.pages.figures import COLOURS
from eval.pages.plots import GREY, below, svg
from eval.results.deciding import deciding
from eval.results.metrics import Measured
from eval.results.options import text
from eval.results.row import Row
from eval.results.rows import NAMES
from recipes.methods import METHODS


def tried(rows: list[Row]) -> dict[str, list[Row]]:
    """Return pipeline -> its settings, each training once: a method's option does not change the others."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.stages:
            found.setdefault(row.pipeline, {}).setdefault(str(row.directories), row)
    return {pipeline: list(settings.values()) for pipeline, settings in found.items()}


def is_sweep(rows: list[Row]) -> bool:
    """Whether any method was trained under more than one setting."""
    return any(len(settings) > 1 for settings in tried(rows).values())


def outcome(rows: list[Row]) -> Measured:
    """Return the outcome by which settings are chosen; higher is better."""
    return deciding(rows[0].results[0])


def best_settings(rows: list[Row]) -> list[list[str]]:
    """Return each method's best setting, head first.

    More settings give a better best one. The last column corrects for that: the mean best over all subsets as large as
    the smallest number of settings that a method tried.
    """
    metric, methods = outcome(rows), tried(rows)
    fewest = min(map(len, methods.values()))
    lines = [["method", "settings tried", "best setting", metric.label, f"expected best of {fewest}"]]
    for pipeline, settings in methods.items():
        values = [row.estimate(metric.key).mean for row in settings]
        best = settings[values.index(max(values))]
        alike = metric.text(expected_best(values, fewest))
        own = " ".join(f"{option}={value}" for option, value in options(best).items())
        words = [NAMES.get(pipeline, pipeline), str(len(settings)), own or "–", metric.text(max(values)), alike]
        lines.append(words)
    return lines


def budgets(rows: list[Row]) -> str:
    """Say whether the methods tried equally many settings, and what to compare if they did not."""
    counts = {len(settings) for settings in tried(rows).values()}
    if len(counts) == 1:
        return f"The best setting of each method. Budgets are equal: {counts.pop()} settings each."
    return (
        "The best setting of each method. Budgets are not equal: compare the last column, the mean best of any "
        f"{min(counts)} of a method's settings."
    )


def expected_best(values: list[float], count: int) -> float:
    """Return the mean, over all subsets of `count` values, of their largest; `count` is at most their number.

    The value with i smaller ones is the largest of C(i, count - 1) subsets; after Dodge et al. (2019,
    arXiv 1909.03004), who draw with replacement.
    """
    shares = [comb(smaller, count - 1) / comb(len(values), count) for smaller in range(len(values))]
    return sum(share * value for share, value in zip(shares, sorted(values), strict=True))


def options(row: Row) -> dict[str, str]:
    """Return the swept options that affect a row, without those of stages that it does not train."""
    stages = {*METHODS} - {*row.stages}
    return {name: text(value) for name, value in row.setting.items() if name.split(".")[0] not in stages}


def parallel_coordinates(rows: list[Row]) -> str:
    """Draw a line per setting through its options to its outcome, the mean over seeds; the best lines are thick."""
    methods, result = tried(rows), outcome(rows)
    names = list(dict.fromkeys(option for settings in methods.values() for row in settings for option in options(row)))
    levels = {option: ordered(option, methods) for option in names}
    results = [row.estimate(result.key).mean for settings in methods.values() for row in settings]
    low, high = min(results), max(results)

    def height(row: Row) -> float:
        return (row.estimate(result.key).mean - low) / (high - low) if high > low else 0.5

    def draw(panels: Sequence[Axes]) -> None:
        axes = panels[0]
        for pipeline, settings in methods.items():
            best = max(settings, key=height)
            for row in settings:
                own = options(row)  # the line skips the axes of other methods
                along = [(place, place_of(own[name], levels[name])) for place, name in enumerate(names) if name in own]
                places, heights = zip(*along, (len(names), height(row)), strict=True)
                style = {"color": COLOURS.get(pipeline, GREY), "linewidth": 2.4 if row is best else 0.9}
                label = NAMES.get(pipeline, pipeline) if row is best else None
                axes.plot(places, heights, marker="o", markersize=3, label=label, **style)
        for place, option in enumerate(names):
            for level in levels[option]:
                axes.text(place + 0.03, place_of(level, levels[option]), level, fontsize=9)
        for value, at in ((low, 0.0), (high, 1.0)) if high > low else ((low, 0.5),):
            axes.text(len(names) + 0.03, at, result.text(value), fontsize=9)
        for place in range(len(names) + 1):
            axes.axvline(place, color=GREY, linewidth=0.8, zorder=0)
        axes.set_xticks(
            range(len(names) + 1),
            [*(option.replace(".", ".\n", 1) for option in names), result.label.replace(", ", ",\n")],
            fontsize=9,
        )
        axes.set(yticks=[], xlim=(-0.1, len(names) + 0.35))
        axes.spines[["left", "bottom"]].set_visible(False)
        below(axes)

    label = f"Parallel coordinates: {', '.join(names)} of every setting, and its {result.label}"
    return svg(draw, label, height=3.6)


def ordered(option: str, methods: dict[str, list[Row]]) -> list[str]:
    """Return the values of an option, numbers in ascending order."""
    found = {options(row)[option] for settings in methods.values() for row in settings if option in options(row)}
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def place_of(value: str, levels: list[str]) -> float:
    """Return a value's position on its axis, between 0 and 1."""
    return levels.index(value) / (len(levels) - 1) if len(levels) > 1 else 0.5
