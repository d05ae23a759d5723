"""The figures of eval.reward, as SVG files: distributions of rewards, and reward against gold reward."""

import io
from collections.abc import Callable
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by the colour-blind; lines and markers differ too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
BINS = 30
SETTINGS: dict[Any, Any] = {
    **{"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "svg.hashsalt": "reward"},
    **{"axes.spines.top": False, "axes.spines.right": False},
}


def distributions(rewards: dict[str, np.ndarray]) -> str:
    """Draw how each pipeline's rewards are distributed, with their means."""
    everything = np.concatenate(list(rewards.values()))
    edges = np.linspace(everything.min(), everything.max() + 1e-9, BINS + 1).tolist()

    def draw(axes: Axes) -> None:
        for (name, values), colour, line in zip(rewards.items(), cycle(COLOURS), cycle(LINES), strict=False):
            weights = np.full(len(values), 100 / len(values))
            style: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.8}
            axes.hist(values, edges, weights=weights, histtype="step", label=name, **style)
            axes.axvline(float(values.mean()), ymax=0.04, **style)
        axes.set(xlabel="reward", ylabel="% of answers")

    return svg(draw)


def optimisation(scores: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Draw each pipeline's mean reward against its mean gold reward, with two standard errors.

    A pipeline that lies to the right of another and not above it has earned its reward from the model's mistakes.
    """

    def draw(axes: Axes) -> None:
        for (name, pair), colour, marker in zip(scores.items(), cycle(COLOURS), cycle(MARKERS), strict=False):
            across, up = ((values.mean(), 2 * values.std() / np.sqrt(len(values))) for values in pair)
            axes.errorbar(across[0], up[0], up[1], across[1], color=colour, marker=marker, label=name, capsize=3)
        axes.set(xlabel="mean reward", ylabel="mean gold reward")

    return svg(draw)


def svg(draw: Callable[[Axes], None]) -> str:
    """Return what `draw` paints as an SVG document, the same for the same data."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        draw(figure.subplots())
        figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})  # type: ignore[arg-type]
    return buffer.getvalue()
