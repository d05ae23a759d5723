"""The page's figures, as SVG that lives in it: text stays text, and colours are the page's, for light and dark."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from doctor.diagnosis import FATES, Diagnosis
from doctor.lengths import PARTS

# Drawn in these stand-ins, then replaced: a figure must follow the page's colours when they change.
COLOURS = {
    "#000001": "currentColor",
    "#000002": "var(--prompt)",
    "#000003": "var(--chosen)",
    "#000004": "var(--rejected)",
    "#000005": "var(--faint)",
}
TEXT, PROMPT, CHOSEN, REJECTED, FAINT = COLOURS
STYLES = {"prompt": (PROMPT, ":"), "chosen": (CHOSEN, "-"), "rejected": (REJECTED, "--")}
BINS = 40
HEADROOM = 1.25  # for the legend
SETTINGS: dict[Any, Any] = {
    **{name: TEXT for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")},
    **{"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "hatch.color": FAINT},
    **{"axes.spines.top": False, "axes.spines.right": False},
}


def lengths(split: Diagnosis, limit: int) -> str:
    """Draw how long prompts and answers are, on a logarithmic axis, with the limit."""
    columns = dict(zip(PARTS, split.sizes.T, strict=True))
    longest = max(int(split.sizes.max(initial=1)), limit, 2)
    edges = np.geomspace(1, longest * 1.05, BINS).tolist()

    def draw(axes: Axes) -> None:
        for name, values in columns.items():
            colour, line = STYLES[name]
            axes.hist(values, edges, histtype="step", color=colour, linestyle=line, linewidth=1.8, label=name)
        axes.axvline(limit, color=TEXT, linewidth=1)
        axes.annotate(f"max_length {limit:,} ", (limit, 1), xycoords=("data", "axes fraction"), ha="right", va="top")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set(xlabel="tokens", ylabel="pairs")
        axes.set_ylim(top=axes.get_ylim()[1] * HEADROOM)
        axes.legend(frameon=False, loc="upper left")

    return svg(draw, f"lengths of {split.name}")


def differences(split: Diagnosis) -> str:
    """Draw how much longer the chosen answer is than the rejected one; the outermost hundredth is at the edges."""
    values = split.sizes[:, 1] - split.sizes[:, 2]
    edge = max(5, int(np.quantile(np.abs(values), 0.99))) if len(values) else 5
    bins = np.linspace(-edge, edge, BINS + 1).tolist()
    values = np.clip(values, -edge, edge)

    def draw(axes: Axes) -> None:
        axes.hist(values[values < 0], bins, color=REJECTED, hatch="//", label="rejected longer")
        axes.hist(values[values > 0], bins, color=CHOSEN, label="chosen longer")
        axes.axvline(0, color=TEXT, linewidth=1)
        axes.set(xlabel="tokens of chosen - tokens of rejected", ylabel="pairs")
        axes.set_ylim(top=axes.get_ylim()[1] * HEADROOM)
        axes.legend(frameon=False, loc="upper left", ncols=2)

    return svg(draw, f"differences of {split.name}")


def findings(split: Diagnosis) -> str:
    """Draw how many rows have each finding; hatched bars are those that the policy keeps."""
    found = [finding for finding in split.findings if finding.count][::-1]

    def draw(axes: Axes) -> None:
        for place, finding in enumerate(found):
            kept = finding.fate not in FATES.values()
            bar = axes.barh(place, finding.count, color=CHOSEN if kept else REJECTED, hatch="//" if kept else None)
            axes.bar_label(bar, [f"{finding.count:,}, {finding.fate}"], padding=4)
        axes.set_yticks(range(len(found)), [finding.name for finding in found])
        axes.set(xlabel="rows")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(right=max((finding.count for finding in found), default=1) * 1.6)

    return svg(draw, f"findings of {split.name}", height=0.9 + 0.38 * max(1, len(found)))


def svg(draw: Callable[[Axes], None], title: str, height: float = 3.2) -> str:
    """Return what `draw` paints as an <svg> element, the same for the same data."""
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": title}):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=unsaid)  # type: ignore[arg-type]
    text = buffer.getvalue()
    text = re.sub(r" id=\"[A-Za-z]+[\w.]*_\d+\"", "", text[text.index("<svg") :])  # the same in every figure
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r'\1 role="img"', text, count=1)
    text = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", rf'\1 aria-label="{title}"', text, count=1)
    for colour, name in COLOURS.items():
        text = text.replace(colour, name)
    return re.sub(r"font: [\d.]+px [^;\"]*", lambda found: found[0].split("px")[0] + "px sans-serif", text)
