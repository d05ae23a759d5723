"""The figures of eval.reward, as SVG files: distributions of rewards, and reward against gold reward."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from eval.pages.plots import SERIES, below, standalone, svg

LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
BINS = 30


def distributions(rewards: dict[str, np.ndarray]) -> str:
    """Draw how each pipeline's rewards are distributed, with their means."""
    everything = np.concatenate(list(rewards.values()))
    edges = np.linspace(everything.min(), everything.max() + 1e-9, BINS + 1).tolist()

    def draw(panels: Sequence[Axes]) -> None:
        for (name, values), colour, line in zip(rewards.items(), cycle(SERIES), cycle(LINES), strict=False):
            weights = np.full(len(values), 100 / len(values))
            style: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.8}
            panels[0].hist(values, edges, weights=weights, histtype="step", label=name, **style)
            panels[0].axvline(float(values.mean()), ymax=0.04, **style)
        panels[0].set(xlabel="reward", ylabel="% of responses")
        below(panels[0])

    return standalone(svg(draw, f"Distribution of rewards: {', '.join(rewards)}", height=height(len(rewards))))


def optimisation(scores: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Draw each pipeline's mean reward against its mean gold reward, with two standard errors.

    A pipeline to the right of another but not above it has exploited the reward model's errors.
    """

    def draw(panels: Sequence[Axes]) -> None:
        for (name, pair), colour, marker in zip(scores.items(), cycle(SERIES), cycle(MARKERS), strict=False):
            across, up = ((values.mean(), 2 * values.std() / np.sqrt(len(values))) for values in pair)
            panels[0].errorbar(across[0], up[0], up[1], across[1], color=colour, marker=marker, label=name, capsize=3)
        panels[0].set(xlabel="mean reward", ylabel="mean gold reward")
        below(panels[0])

    return standalone(
        svg(draw, f"Mean reward against mean gold reward: {', '.join(scores)}", height=height(len(scores)))
    )


def height(rows: int) -> float:
    """Return the height in inches that leaves room for the legend's rows."""
    return 3.1 + 0.12 * rows
