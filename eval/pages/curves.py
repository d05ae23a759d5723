"""Curves of held-out log-probs during training, over seeds and pairs: as a figure, as JSON and printed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from eval.pages.figures import COLOURS
from eval.pages.plots import standalone, svg
from eval.results.statistics import Estimate, estimate, text
from recipes.config import write_text
from recipes.system.commands import output

LINES = {"chosen": ("-", "o"), "rejected": ("--", "s")}


@dataclass(frozen=True)
class Curve:
    """One stage under one setting; log-probs are means per token, in nats, with shape (steps, seeds, pairs)."""

    stage: str
    setting: str  # how it differs from the session's other curves of this stage
    seeds: list[int]
    steps: list[int]  # optimizer steps, from 0
    batch_size: int
    chosen: np.ndarray
    rejected: np.ndarray

    @property
    def title(self) -> str:
        """The curve's name: stage and setting."""
        return f"{self.stage.upper()} {self.setting}".strip()

    def estimates(self, side: str) -> list[Estimate]:
        """Return the mean at every step, with its 95 % interval over seeds and pairs."""
        return [estimate(scores) for scores in getattr(self, side)]


def draw(curves: list[Curve], path: Path) -> None:
    """Write the figure as a standalone file, whole or not at all."""
    write_text(path, standalone(figure(curves)))


def figure(curves: list[Curve]) -> str:
    """Return a panel for each curve, side by side with a common axis of log-probs, as an <svg> element.

    Solid lines and circles are chosen responses; dashed lines and squares rejected ones. Lines are means over seeds and
    pairs; bands span the seeds' means.
    """

    def paint(panels: Sequence[Axes]) -> None:
        for axes, curve in zip(panels, curves, strict=True):
            for side, (line, marker) in LINES.items():
                style = {"linestyle": line, "marker": marker, "markersize": 3, "label": side, "linewidth": 1.5}
                pairs, means = np.array(curve.steps) * curve.batch_size, getattr(curve, side).mean(2)
                axes.plot(pairs, means.mean(1), color=COLOURS[curve.stage], **style)
                if len(curve.seeds) > 1:
                    band = {"color": COLOURS[curve.stage], "alpha": 0.2, "linewidth": 0}
                    axes.fill_between(pairs, means.min(1), means.max(1), **band)
            axes.set_title(curve.title.replace(" ", "\n"), fontsize=11)
            axes.set_xlabel("pairs read in the stage")
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panels[0].set(ylabel="nats per token, held-out responses")
        panels[0].legend(frameon=False)

    names = ", ".join(curve.title for curve in curves)
    label = f"Mean log-prob of chosen and rejected held-out responses during training, one panel each for {names}"
    return svg(paint, label, len(curves), height=3.6, beside=True)


def as_json(curves: list[Curve]) -> list[dict[str, Any]]:
    """Return every curve's means with their intervals as plain values."""
    found = []
    for curve in curves:
        names = {"stage": curve.stage, "setting": curve.setting, "seeds": curve.seeds, "steps": curve.steps}
        sides = {side: [asdict(value) for value in curve.estimates(side)] for side in LINES}
        found.append({**names, "batch_size": curve.batch_size, "pairs": curve.chosen.shape[2], **sides})
    return found


def first_and_last(curves: list[Curve]) -> None:
    """Print each curve's first and last value, and the difference."""
    for curve in curves:
        output.print(f"{curve.title}: {len(curve.steps)} models, seeds {', '.join(map(str, curve.seeds))}")
        for side in LINES:
            scores = getattr(curve, side)
            first, last, moved = (text(estimate(values)) for values in (scores[0], scores[-1], scores[-1] - scores[0]))
            output.print(f"  {side:8} {first} to {last}, moved {moved}", soft_wrap=True)
    output.print(f"Log-probs in nats per token of {curves[0].chosen.shape[2]} held-out pairs; brackets: 95% intervals.")
