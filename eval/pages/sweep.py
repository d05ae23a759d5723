"""The settings of a sweep, drawn: options against outcomes."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from eval.pages.figures import COLOURS
from eval.pages.plots import GREY, below, svg
from eval.results.best import Tried, options, outcome, title, tried
from eval.results.row import Row


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
        for (model, pipeline), settings in methods.items():
            best = max(settings, key=height)
            for row in settings:
                own = options(row)  # the line skips the axes of other methods
                along = [(place, place_of(own[name], levels[name])) for place, name in enumerate(names) if name in own]
                places, heights = zip(*along, (len(names), height(row)), strict=True)
                style = {"color": COLOURS.get(pipeline, GREY), "linewidth": 2.4 if row is best else 0.9}
                label = title(model, pipeline) if row is best else None
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


def ordered(option: str, methods: Tried) -> list[str]:
    """Return the values of an option, numbers in ascending order."""
    found = {options(row)[option] for settings in methods.values() for row in settings if option in options(row)}
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def place_of(value: str, levels: list[str]) -> float:
    """Return a value's position on its axis, between 0 and 1."""
    return levels.index(value) / (len(levels) - 1) if len(levels) > 1 else 0.5
