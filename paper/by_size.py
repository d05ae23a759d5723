"""The chart of docs/evidence.md: ORPO minus DPO by the model's size, a panel for each kind of metric."""

import re
from collections.abc import Callable, Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from eval.pages.plots import BLUE, GREEN, GREY, ORANGE, PINK, svg
from paper.differences import SEEDS_AND_PROMPTS, Difference, every_source
from paper.published import PER_CENT

# What is drawn, all of it in points of 100.
PANELS: dict[str, Callable[[Difference], bool]] = {
    "Against each other: ORPO's share of wins minus DPO's": lambda found: not found.dpo,
    "Each against a third model: win rates": lambda found: bool(found.dpo) and "win rate" in found.orpo.metric,
    "Benchmarks: scores": lambda found: bool(found.dpo) and "win rate" not in found.orpo.metric,
}
COLOURS = {
    **{"comparison": PINK, "all-methods": GREEN, "real-verifiable": ORANGE, "real-harmless": GREY},
    **{"orpo": BLUE, "blur": ORANGE, "simpo": GREY, "oxrl": BLUE, "dft": ORANGE, "repo": GREY},
}
SHAPES = {
    "ORPO": ("o", "ORPO in one stage"),
    "SFT+ORPO": ("s", "SFT → ORPO"),
    "SFT+odds ratio": ("^", "SFT → its odds-ratio term alone"),
}
TRAININGS = ("seeds", SEEDS_AND_PROMPTS)  # an interval over these is about the methods, drawn with a thick bar
THICK, THIN = 2.2, 0.8
TITLE = "ORPO minus DPO in points, by the size of the model: one panel each for "


def panels(found: list[Difference]) -> dict[str, list[Difference]]:
    """Return each panel's differences by size, and by source among those of one size."""
    order = list(every_source())
    drawn = [one for one in found if one.orpo.protocol.scale == PER_CENT]
    return {
        title: sorted(filter(belongs, drawn), key=lambda one: (one.orpo.billions, order.index(one.orpo.source)))
        for title, belongs in PANELS.items()
    }


def chart(found: list[Difference]) -> str:
    """Draw the panels, as an <svg> element."""

    def paint(every: Sequence[Axes]) -> None:
        for axes, (title, rows) in zip(every, panels(found).items(), strict=True):
            draw(axes, title, rows)
        key(every[-1])

    return svg(paint, TITLE + "; ".join(PANELS), len(PANELS), 10.4)


def draw(axes: Axes, title: str, rows: list[Difference]) -> None:
    """Draw one panel: each difference in a column of its own, those of one size beside each other."""
    places = columns(axes, rows)
    axes.axhline(0, color=GREY, linewidth=0.8)
    for trend in trends(rows):
        colour = COLOURS[rows[trend[0]].orpo.source]
        axes.plot([places[row] for row in trend], [rows[row].value for row in trend], ":", color=colour)
    for place, row in zip(places, rows, strict=True):
        interval, colour = row.interval, COLOURS[row.orpo.source]
        bar = [[row.value - interval.low], [interval.high - row.value]] if interval else None
        style = {"fmt": SHAPES[row.orpo.method][0], "color": colour, "markersize": 4.5}
        style |= {"elinewidth": THICK if interval and interval.over in TRAININGS else THIN}
        axes.errorbar([place], [row.value], bar, markerfacecolor=colour if interval else "none", **style)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set(ylabel="ORPO − DPO, points")
    names = dict.fromkeys(row.orpo.source for row in rows)
    legend = [Line2D([], [], color=COLOURS[name], linewidth=4, label=every_source()[name].short) for name in names]
    place = {"loc": "upper left", "bbox_to_anchor": (0, -0.1), "ncols": 2, "columnspacing": 1, "handlelength": 1}
    axes.legend(handles=legend, frameon=False, **place)


def columns(axes: Axes, rows: list[Difference]) -> list[float]:
    """Return the place of each difference; name the sizes there and separate them by thin lines."""
    least = len(rows) / 8  # so wide that a size can be read
    places, ticks, start = [], {}, 0.0
    for size, group in groupby(rows, lambda row: row.orpo.size):
        count = len(list(group))
        width = max(count, least)
        ticks[size] = start + width / 2
        places += [start + width * (place + 0.5) / count for place in range(count)]
        if start:
            axes.axvline(start, color=GREY, linewidth=0.4)
        start += width
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.set_xlim(0, start)
    return places


def trends(rows: list[Difference]) -> list[list[int]]:
    """Return the columns of each source's models of one family that differ in size alone."""
    found: dict[tuple[object, ...], list[int]] = {}
    for column, row in enumerate(rows):
        family = re.sub(r"\d+(\.\d+)?[MB]\b", "", row.orpo.model)
        if not row.across:
            key = (row.orpo.source, family, row.orpo.data, row.orpo.metric, row.orpo.method, row.rival)
            found.setdefault(key, []).append(column)
    return [columns for columns in found.values() if len({rows[column].orpo.size for column in columns}) > 1]


def key(axes: Axes) -> None:
    """Explain shapes and bars below all panels."""
    said = [
        *({"marker": mark, "linestyle": "", "label": label} for mark, label in SHAPES.values()),
        {"linewidth": THICK, "label": "95% over trainings"},
        {"linewidth": THIN, "label": "95% over prompts or samples of one model each"},
        {
            "marker": "o",
            "markerfacecolor": "none",
            "linestyle": "",
            "label": "hollow: nothing printed gives a bar",
        },
        {"linestyle": ":", "label": "the same models in several sizes"},
    ]
    handles = [Line2D([], [], **{"color": GREY, **style}) for style in said]
    axes.figure.legend(handles=handles, frameon=False, loc="outside lower left")
