"""SVG that lives in a page: text stays text, and colours are the page's, so that they follow light and dark."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.methods import METHODS

TEMPLATES = Path(__file__).parent / "templates"  # of pages; the style of figures and pages stands there once

# Drawn in stand-ins (keys), then replaced by variables of the page's style sheet (values).
VARIABLES = ("currentColor", *(f"var(--{name})" for name in ("faint", "base", "back", *METHODS)))
COLOURS = {f"#{number:06x}": variable for number, variable in enumerate(VARIABLES, 1)}
TEXT, FAINT, BASE, BACK, *OF_METHODS = COLOURS
SETTINGS: dict[Any, Any] = {
    **{name: TEXT for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")},
    **{"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "hatch.color": BACK},
    **{"axes.spines.top": False, "axes.spines.right": False},
}
UNSAID: dict[Any, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg(
    draw: Callable[[Sequence[Axes]], None],
    title: str,
    panels: int = 1,
    height: float = 3.2,
    sharex: bool = False,
    beside: bool = False,
) -> str:
    """Return what `draw` paints on panels as an <svg> element, the same for the same data.

    Panels are one below the other, or `beside` each other on a common y axis. `height` is of all panels, in inches;
    `title` is what a screen reader says.
    """
    width, shape = (max(5.4, 0.8 + 2.3 * panels), (1, panels)) if beside else (5.4, (panels, 1))
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": title}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots(*shape, squeeze=False, sharex=sharex, sharey=beside).ravel().tolist())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=UNSAID)
    text = buffer.getvalue()
    text = re.sub(r" id=\"[A-Za-z]+[\w.]*_\d+\"", "", text[text.index("<svg") :])  # the same in every figure
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r'\1 role="img"', text, count=1)
    label = f' aria-label="{escape(title)}"'
    text = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", lambda found: found[1] + label, text, count=1)
    for colour, name in COLOURS.items():
        text = text.replace(colour, name)
    return re.sub(r"font: [\d.]+px [^;\"]*", lambda found: found[0].split("px")[0] + "px sans-serif", text)


def palette(dark: bool) -> str:
    """Return the methods' colours as variables of a style sheet."""
    return " ".join(f"--{name}: {method.colours[dark]};" for name, method in METHODS.items())


def standalone(element: str) -> str:
    """Return an <svg> element as a file of its own, in the page's colours of light mode."""
    style = (TEMPLATES / "page.html.jinja").read_text().split(":root {", 1)[1].split("}", 1)[0] + palette(dark=False)
    for name, colour in re.findall(r"(--\w+): (#\w+);", style):
        element = element.replace(f"var({name})", colour)
    return element
