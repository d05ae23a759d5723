"""Figure 6 of the ORPO paper: the log odds ratio is spread wider than the log probability ratio.

    python -m eval.ratios [DIRECTORY]

By its definition (equations 17 to 19): two probabilities are drawn uniformly and independently; nothing is trained.
Writes figure-6.svg and figure-6.json to the directory, by default runs/_paper.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import logit

from eval.session import console
from eval.suite import NoOptions, run
from recipes.config import UserError, write_json

SAMPLES, SEED = 50_000, 0
TEMPERATURES = (0.2, 1.0)  # the paper's betas: DPO's and SimPO's loss is the log-sigmoid of beta times the log ratio
LINES = {"log OR": ("#0072B2", "-"), "log PR, β = 0.2": ("#D55E00", "--"), "log PR, β = 1.0": ("#009E73", ":")}
# Exactly: -log X of a uniform X is exponential, its difference of two Laplace of variance 2; the log-odds are logistic.
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


def draw(ratios: dict[str, np.ndarray], path: Path) -> None:
    """Write the three distributions as an SVG that is the same for the same samples; text stays text."""
    import matplotlib
    from matplotlib.figure import Figure

    edges = np.linspace(-6, 6, 121).tolist()
    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        for name, values in ratios.items():
            colour, line = LINES[name]
            style = {"color": colour, "linestyle": line, "linewidth": 1.8, "label": name}
            axes.hist(values, edges, density=True, histtype="step", **style)
        axes.set(xlabel="log ratio of two uniform probabilities", ylabel="density", xlim=(-6, 6))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        temporary = path.with_name(f".{path.name}")
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    temporary.replace(path)


def main(names: list[str], _: NoOptions) -> None:
    """Write figure and numbers to a directory.

    Raises:
        UserError: it is none.
    """
    directory = Path(names[0]) if names else Path("runs", "_paper")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} is no directory to write to ({error.strerror}): name another") from None
    ratios = sample()
    draw(ratios, directory / "figure-6.svg")
    write_json(directory / "figure-6.json", {"samples": SAMPLES, "seed": SEED, "ratios": summary(ratios)})
    for name, numbers in summary(ratios).items():
        spread = f"standard deviation {numbers['deviation']:.3f} (exactly {numbers['exact_deviation']:.3f})"
        console.print(f"{name:16} {spread}, middle 90% [{numbers['low']:.2f}, {numbers['high']:.2f}]", soft_wrap=True)
    console.print(f"figure 6: {directory}/figure-6.svg and figure-6.json", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, NoOptions, main))
