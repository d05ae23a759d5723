"""Figure 6 of the ORPO paper: the log odds ratio spreads wider than the log probability ratio.

    python -m paper.ratios [DIRECTORY]

By its definition (equations 17 to 19): two probabilities are drawn uniformly and independently; nothing is trained.
Writes figure-6.svg and figure-6.json to the directory, by default runs/_paper.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy.special import logit

from eval.commands.cli import NoOptions, run
from eval.pages.figures import COLOURS
from eval.pages.plots import standalone, svg
from recipes.config import UserError, write_json, write_text
from recipes.system.commands import output

SAMPLES, SEED = 50_000, 0
TEMPERATURES = (0.2, 1.0)  # the paper's betas: DPO's and SimPO's loss is the log-sigmoid of beta times the log ratio
LINES = ("-", "--", ":")
# Exactly: -log X of a uniform X is exponential, the difference of two is Laplace with variance 2; log-odds are
# logistic.
DEVIATIONS = {"log OR": np.pi * (2 / 3) ** 0.5, "log PR, β = 0.2": 0.2 * 2**0.5, "log PR, β = 1.0": 2**0.5}


def sample(count: int = SAMPLES, seed: int = SEED) -> dict[str, np.ndarray]:
    """Return `count` log ratios of each kind, of the same pairs of probabilities (equations 17 to 19)."""
    first, second = np.random.default_rng(seed).random((2, count))
    ratios = {f"log PR, β = {beta}": beta * (np.log(first) - np.log(second)) for beta in TEMPERATURES}
    return {"log OR": logit(first) - logit(second), **ratios}


def summary(ratios: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the numbers of the figure: standard deviation, its exact value, and the middle 90 % of each ratio."""
    found = {}
    for name, values in ratios.items():
        low, high = np.quantile(values, [0.05, 0.95])
        found[name] = {"deviation": float(values.std()), "exact_deviation": float(DEVIATIONS[name])}
        found[name] |= {"low": float(low), "high": float(high)}
    return found


def figure(ratios: dict[str, np.ndarray]) -> str:
    """Draw the three distributions, as an <svg> element for a page."""
    edges = np.linspace(-6, 6, 121).tolist()

    def paint(panels: Sequence[Axes]) -> None:
        (axes,) = panels
        for (name, values), method, line in zip(ratios.items(), ("orpo", "dpo", "base"), LINES, strict=True):
            style = {"color": COLOURS[method], "linestyle": line, "linewidth": 1.8, "label": name}
            axes.hist(values, edges, density=True, histtype="step", **style)
        axes.set(xlabel="log ratio of two uniform probabilities", ylabel="density", xlim=(-6, 6))
        axes.legend(frameon=False)

    return svg(paint, f"Distributions of {', '.join(ratios)} of two uniform probabilities")


def main(names: list[str], _: NoOptions) -> None:
    """Write figure and numbers to a directory.

    Raises:
        UserError: the directory does not exist or is not writable.
    """
    directory = Path(names[0]) if names else Path("runs", "_paper")
    if names and not directory.is_dir():
        raise UserError(f"{directory} is no directory: make it first, or name none (figure 6 needs no session)")
    directory.mkdir(parents=True, exist_ok=True)
    ratios = sample()
    write_text(directory / "figure-6.svg", standalone(figure(ratios)))
    write_json(directory / "figure-6.json", {"samples": SAMPLES, "seed": SEED, "ratios": summary(ratios)})
    for name, numbers in summary(ratios).items():
        spread = f"standard deviation {numbers['deviation']:.3f} (exactly {numbers['exact_deviation']:.3f})"
        output.print(f"{name:16} {spread}, middle 90% [{numbers['low']:.2f}, {numbers['high']:.2f}]", soft_wrap=True)
    output.print(f"figure 6: {directory}/figure-6.svg and figure-6.json", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
