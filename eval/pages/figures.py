"""The report's figures: training, held-out log-probs, distributions of scores, and cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from eval.pages.plots import GREY, below, svg
from eval.results.cells import title
from eval.results.history import Training
from eval.results.metrics import CHOSEN, COMPUTED, FLOPS, REJECTED, SECONDS, Cost
from eval.results.row import Row
from eval.results.rows import NAMES
from recipes.methods import METHODS

PAIRS = "pairs read since the base model"
COLOURS = {"base": GREY, **{name: method.colour for name, method in METHODS.items()}}
COLOURS |= {f"sft_{name}": method.colour for name, method in METHODS.items()}  # its line is whole: see LINES
COLOURS["rlhf"] = COLOURS["rloo"]  # the pipeline that ends with it
LINES = {"base": ":", "rlhf": METHODS["rloo"].line, **{name: method.line for name, method in METHODS.items()}}
LOG_PROBS = {name: method for name, method in METHODS.items() if method.logged_log_probs}
PER = {"sum": "response", "mean": "token"}  # the unit of log-probs that are sums or means
LINE = {"linewidth": 1.2, "marker": "o", "markersize": 2}  # a short training logs a single point
COSTS = (SECONDS, FLOPS, COMPUTED)


def losses(trainings: list[Training]) -> str:
    """Draw each method's training loss against the pairs read, one panel per method: losses are not comparable."""
    stages = [stage for stage in COLOURS if any(found.stage == stage for found in trainings)]

    def draw(panels: Sequence[Axes]) -> None:
        for axes, stage in zip(panels, stages, strict=True):
            for found in (found for found in trainings if found.stage == stage):
                axes.plot(*found.curve("loss"), color=COLOURS[stage], **LINE)
            axes.set(ylabel=f"{METHODS[stage].label}, {METHODS[stage].loss}")
        along_pairs(panels[-1])

    names = ", ".join(METHODS[stage].label for stage in stages)
    label = f"Training loss of {names} against the pairs read, one panel for each method"
    return svg(draw, label, len(stages), 0.6 + 1.7 * len(stages), sharex=True)


def log_probs(trainings: list[Training]) -> str:
    """Draw the training log-probs of methods that log them; sums and means in different panels."""
    stages = [stage for stage in LOG_PROBS if any(found.stage == stage for found in trainings)]

    def draw(panels: Sequence[Axes]) -> None:
        for axes, stage in zip(panels, stages, strict=True):
            kind = LOG_PROBS[stage].logged_log_probs or "sum"
            for place, found in enumerate(found for found in trainings if found.stage == stage):
                for answer, line in (("chosen", "-"), ("rejected", "--")):
                    style = {"color": COLOURS[stage], "linestyle": line, "label": None if place else answer}
                    axes.plot(*found.curve(f"logps_{kind}/{answer}"), **LINE, **style)
            axes.set(ylabel=f"{METHODS[stage].label}, nats\nper {PER[kind]}")
            axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 0.98))
        along_pairs(panels[-1])

    names = ", ".join(METHODS[stage].label for stage in stages)
    label = f"Log-probs of chosen and rejected training responses against the pairs read, one panel each for {names}"
    return svg(draw, label, len(stages), 0.6 + 2.2 * len(stages), sharex=True) if stages else ""


def held_out(rows: list[Row], trainings: list[Training]) -> str:
    """Draw the table's held-out log-probs after every stage: one definition, so all share the same axes."""

    def draw(panels: Sequence[Axes]) -> None:
        for row in (row for row in rows if row.stages):
            ends, colour = evaluated_ends(row, rows, trainings), COLOURS.get(row.pipeline, GREY)
            for answer, metric, line, marker in (("chosen", CHOSEN, "-", "o"), ("rejected", REJECTED, "--", "s")):
                pairs, found = zip(*((pairs, end.estimate(metric.key)) for pairs, end in ends[-2:]), strict=True)
                panels[0].plot(pairs, [point.mean for point in found], line, color=colour)
                last, style = found[-1], {"fmt": marker, "color": colour, "capsize": 3}
                bar = [[last.mean - last.low], [last.high - last.mean]]
                panels[0].errorbar([pairs[-1]], [last.mean], bar, label=f"{name(row)}, {answer}", **style)
        panels[0].set(ylabel="nats per token, held-out responses")
        along_pairs(panels[0])
        below(panels[0])

    names = ", ".join(map(title, rows))
    label = f"Mean log-prob of held-out chosen and rejected responses after every stage, with 95% intervals: {names}"
    return svg(draw, label, height=3.6 + 0.2 * len(rows))


def evaluated_ends(row: Row, rows: list[Row], trainings: list[Training]) -> list[tuple[int, Row]]:
    """Return a pipeline's models that have a row, in order, each with the number of pairs read before it.

    The first is the base model, if the session has only one.
    """
    after = {found.directory: found.after for found in trainings}
    by_directories = {tuple(stages[-1] for stages in other.directories): other for other in rows}
    bases = [(0, other) for other in rows if not other.stages]
    ends = [
        (after[stages[0]], by_directories[stages])
        for stages in zip(*row.directories, strict=True)
        if stages in by_directories
    ]
    return (bases if len(bases) == 1 else []) + ends


def distribution(rows: list[Row], values: list[np.ndarray], label: str) -> str:
    """Draw the share of responses or pairs at or below each value, one line per row, all seeds together."""

    def draw(panels: Sequence[Axes]) -> None:
        for row, found in zip(rows, values, strict=True):
            style: dict[str, Any] = {
                "color": COLOURS.get(row.pipeline, GREY),
                "linestyle": LINES.get(row.pipeline, "-"),
            }
            panels[0].ecdf(found.ravel(), linewidth=1.8, label=name(row), **style)
        panels[0].set(xlabel=label, ylabel="share at or below")
        below(panels[0])

    said = f"Share of the values at or below each {label}, one line each for {', '.join(map(title, rows))}"
    return svg(draw, said, height=3.1 + 0.12 * len(rows))


def ledger(rows: list[Row]) -> str:
    """Draw every pipeline's cost as a bar of its stages, each the mean over seeds."""
    trained = [row for row in rows if row.stages][::-1]

    def draw(panels: Sequence[Axes]) -> None:
        for axes, cost in zip(panels, COSTS, strict=True):
            for place, row in enumerate(trained):
                total = stack(axes, place, by_stage(row, cost))
                text = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
                axes.annotate(cost.text(total), (total, place), **text)
            axes.set_yticks(range(len(trained)), [name(row) for row in trained])
            axes.set(xlabel=cost.label)
            axes.margins(x=0.25)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        bars = {label: bar for bar, label in zip(*panels[0].get_legend_handles_labels(), strict=True)}
        stages = [stage for stage in COLOURS if stage in bars]
        above = {"loc": "lower left", "bbox_to_anchor": (0, 0.98)}
        panels[0].legend([bars[stage] for stage in stages], stages, frameon=False, ncols=4, **above)

    names = ", ".join(map(title, trained))
    label = f"Cost, stacked by stage, in device-seconds, FLOPs and tokens computed: {names}"
    return svg(draw, label, len(COSTS), len(COSTS) * (0.8 + 0.32 * len(trained)))


def stack(axes: Axes, place: int, parts: list[tuple[str, float]]) -> float:
    """Draw one bar of a pipeline's stages, and return its end."""
    end = 0.0
    for stage, value in parts:
        style: dict[str, Any] = {"color": COLOURS.get(stage, GREY), "hatch": METHODS[stage].hatch, "edgecolor": "white"}
        axes.barh(place, value, left=end, linewidth=0.5, label=stage, **style)
        end += value
    return end


def name(row: Row) -> str:
    """Return a pipeline's name; a figure shows one setting, named in its caption."""
    return NAMES.get(row.pipeline, row.pipeline)


def by_stage(row: Row, cost: Cost) -> list[tuple[str, float]]:
    """Return each stage of a pipeline with what it cost, the mean over seeds."""
    each = [[cost.of_stages([record]) for record in stages] for stages in row.records]
    means = np.array(each, dtype=float).mean(axis=0)
    return list(zip(row.stages, means.tolist(), strict=True))


def along_pairs(axes: Axes) -> None:
    """Label the common axis of the training figures."""
    axes.set(xlabel=PAIRS)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def short(value: float) -> str:
    """Return an axis label that fits beside its neighbours."""
    return f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"
