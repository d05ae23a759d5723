"""The page's figures: lengths, their differences, and findings."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from doctor.diagnosis import FATES, Diagnosis
from doctor.lengths import PARTS
from eval.pages.plots import BLUE, GREY, ORANGE, TEXT, svg

STYLES = {"prompt": (GREY, ":"), "chosen": (BLUE, "-"), "rejected": (ORANGE, "--")}
BINS = 40
HEADROOM = 1.25  # for the legend


def lengths(split: Diagnosis, limit: int) -> str:
    """Draw the lengths of prompts and responses on a logarithmic axis, with the limit."""
    columns = dict(zip(PARTS, split.sizes.T, strict=True))
    longest = max(int(split.sizes.max(initial=1)), limit, 2)
    edges = np.geomspace(1, longest * 1.05, BINS).tolist()

    def draw(panels: Sequence[Axes]) -> None:
        (axes,) = panels
        for name, values in columns.items():
            colour, line = STYLES[name]
            axes.hist(
                values[values > 0], edges, histtype="step", color=colour, linestyle=line, linewidth=1.8, label=name
            )
        axes.axvline(limit, color=TEXT, linewidth=1)
        axes.annotate(f"max_length {limit:,} ", (limit, 1), xycoords=("data", "axes fraction"), ha="right", va="top")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set(xlabel="tokens", ylabel="pairs")
        axes.set_ylim(top=axes.get_ylim()[1] * HEADROOM)
        axes.legend(frameon=False, loc="upper left")

    return svg(draw, f"lengths of {split.name}")


def differences(split: Diagnosis) -> str:
    """Draw how much longer the chosen response is than the rejected one; the outermost hundredth is at the edges."""
    values = split.sizes[:, 1] - split.sizes[:, 2]
    edge = max(5, int(np.quantile(np.abs(values), 0.99))) if len(values) else 5
    bins = np.linspace(-edge, edge, BINS + 1).tolist()
    values = np.clip(values, -edge, edge)

    def draw(panels: Sequence[Axes]) -> None:
        (axes,) = panels
        axes.hist(values[values < 0], bins, color=ORANGE, hatch="//", label="rejected longer")
        axes.hist(values[values > 0], bins, color=BLUE, label="chosen longer")
        axes.axvline(0, color=TEXT, linewidth=1)
        axes.set(xlabel="tokens of chosen - tokens of rejected", ylabel="pairs")
        axes.set_ylim(top=axes.get_ylim()[1] * HEADROOM)
        axes.legend(frameon=False, loc="upper left", ncols=2)

    return svg(draw, f"differences of {split.name}")


def findings(split: Diagnosis) -> str:
    """Draw how many rows have each finding; hatched bars are findings that the policy keeps."""
    found = [finding for finding in split.findings if finding.count][::-1]

    def draw(panels: Sequence[Axes]) -> None:
        (axes,) = panels
        for place, finding in enumerate(found):
            kept = finding.fate not in FATES.values()
            bar = axes.barh(place, finding.count, color=BLUE if kept else ORANGE, hatch="//" if kept else None)
            axes.bar_label(bar, [f"{finding.count:,}, {finding.fate}"], padding=4)
        axes.set_yticks(range(len(found)), [finding.name for finding in found])
        axes.set(xlabel="rows")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(right=max((finding.count for finding in found), default=1) * 1.6)

    return svg(draw, f"findings of {split.name}", height=0.9 + 0.38 * max(1, len(found)))
