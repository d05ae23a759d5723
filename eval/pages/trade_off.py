"""The figure that answers the question: what each pipeline's responses are worth, against what its training cost."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from eval.pages.figures import COLOURS, name
from eval.pages.plots import GREY, below, svg
from eval.results.cells import title
from eval.results.deciding import outcomes
from eval.results.metric import Cost
from eval.results.metrics import FLOPS, METRIC, SECONDS, WIN
from eval.results.row import Row
from eval.results.rows import arranged
from eval.results.statistics import Estimate

CAPTION = "Higher is better, further left is cheaper. Bars are 95% intervals."
MARKERS = "osD^vPX"
EVEN = Estimate(0.5, 0.5, 0.5, None)  # SFT against itself
Worths = list[tuple[Row, Estimate]]


def trade_off(rows: list[Row]) -> str:
    """Draw a setting's quality against its cost, with 95% intervals; nothing where nobody decides between two rows.

    Quality is the win rate against SFT, or without SFT the metric that decides a win. Cost is relative to SFT, or to
    the cheapest.
    """
    trained = arranged([row for row in rows if row.stages])
    label, worths = qualities(trained)
    if len(worths) < 2:
        return ""
    cost = FLOPS if all(row.values[FLOPS.key] for row in trained) else SECONDS
    costs = {row.pipeline: spent(row, cost) for row in trained}
    first = min(trained, key=lambda row: (row.pipeline != "sft", costs[row.pipeline]))

    def draw(panels: Sequence[Axes]) -> None:
        for (row, worth), marker in zip(worths, cycle(MARKERS), strict=False):
            bar = [[worth.mean - worth.low], [worth.high - worth.mean]]
            style = {"fmt": marker, "color": COLOURS.get(row.pipeline, GREY), "capsize": 4, "markersize": 8}
            at = costs[row.pipeline] / costs[first.pipeline]
            panels[0].errorbar([at], [worth.mean], bar, label=name(row), **style)
        dress(panels[0], against_sft=worths[-1][1] is EVEN)
        panels[0].set(xlabel=f"{cost.label}, relative to {name(first)}", ylabel=label)

    said = f"{label} against {cost.label} relative to {name(first)}, with 95% intervals"
    return svg(draw, f"{said}: {', '.join(title(row) for row, _ in worths)}", height=3.6)


def qualities(rows: list[Row]) -> tuple[str, Worths]:
    """Return what quality is called, and each row that has one with its estimate; SFT is last."""
    over_sft = METRIC["win_rate_over_sft"].label
    found = [(row, row.against[WIN]["sft"].rate) for row in rows if "sft" in row.against.get(WIN, {})]
    if found:
        return over_sft, [*found, *((row, EVEN) for row in rows if row.pipeline == "sft")]
    decides = outcomes(rows[0]).get(WIN) if rows else None
    return (decides.label, [(row, row.estimate(decides.key)) for row in rows]) if decides else ("", [])


def spent(row: Row, cost: Cost) -> float:
    """Return what a row cost, the mean over seeds."""
    return float(cost.spent(row).mean())


def dress(axes: Axes, against_sft: bool) -> None:
    """Finish the axes: cost from zero, win rates in percent with a line where neither side wins."""
    if against_sft:
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6, prune="both"))  # a label at the end would be cut
    below(axes)
