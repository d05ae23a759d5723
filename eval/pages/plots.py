"""Figures as SVG elements for a page or a file, with text as text and one palette for light and dark pages."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Each has a contrast of 3.6 to 5 with white and with the dark pages' #161616; lines and hatches differ too, for readers
# who cannot distinguish colors. `recipes.methods` has the methods' colors.
GREY, BLUE, ORANGE, GREEN, PINK = "#808080", "#2f86c8", "#c8701e", "#129573", "#bd5f9a"
SERIES = (GREY, BLUE, ORANGE, GREEN, PINK)
TEXT = "#000001"  # a placeholder for the page's text color
SETTINGS: dict[Any, Any] = {
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "hatch.color": "white",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
}
METADATA: dict[Any, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # none of them
STYLE = "<style>svg{color:#1b1b1b}@media(prefers-color-scheme:dark){svg{color:#ededed}}</style>"


def svg(
    draw: Callable[[Sequence[Axes]], None],
    title: str,
    panels: int = 1,
    height: float = 3.2,
    sharex: bool = False,
    beside: bool = False,
) -> str:
    """Return what `draw` draws on panels as an <svg> element, deterministically.

    Panels are stacked, or `beside` each other with a common y axis. `height` is that of all panels, in inches; `title`
    is for screen readers.
    """
    width, shape = (max(5.4, 0.8 + 2.3 * panels), (1, panels)) if beside else (5.4, (panels, 1))
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": title}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots(*shape, squeeze=False, sharex=sharex, sharey=beside).ravel().tolist())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=METADATA)
    text = buffer.getvalue()
    text = re.sub(r" id=\"[A-Za-z]+[\w.]*_\d+\"", "", text[text.index("<svg") :])  # the same in every figure
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r'\1 role="img"', text, count=1)
    label = f' aria-label="{escape(title)}"'
    text = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", lambda found: found[1] + label, text, count=1)
    text = text.replace(TEXT, "currentColor")
    return re.sub(r"font: [\d.]+px [^;\"]*", lambda found: found[0].split("px")[0] + "px sans-serif", text)


def standalone(element: str) -> str:
    """Return an <svg> element as a standalone file, with dark text on a light page and light text on a dark one."""
    head, rest = element.split(">", 1)
    return f"{head}>{STYLE}{rest}"


def below(axes: Axes) -> None:
    """Put the legend below the axes, where it covers no data."""
    axes.legend(frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.2))
