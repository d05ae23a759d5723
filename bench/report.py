"""The results as a file, a page and plots: docs/bench.json, bench.md, bench-speed.svg and bench-memory.svg."""

import os
import platform
import statistics
from datetime import date
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment

from bench.workload import MADE, SHAPES
from launch.shape import head_parameters, parameters
from recipes.config import write_json, write_text
from recipes.versions import provenance, versions

PAGE = Path(__file__).with_name("page.md.jinja")


def environment() -> dict[str, Any]:
    """Return the machine, the versions and the commit."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cpu = f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {os.cpu_count()} cores"
    return {"device": gpu or cpu, "gpu": gpu, "load": os.getloadavg()[0], "versions": versions(), **provenance()}


def middle(values: list[float], digits: int) -> str:
    """Return the median, with the smallest and the largest where there are several."""
    shown = f"{statistics.median(values):,.{digits}f}"
    return shown + (f" ({min(values):,.{digits}f}-{max(values):,.{digits}f})" if len(values) > 1 else "")


def spread(repetitions: list[dict[str, Any]], name: str, unit: float, digits: int) -> str:
    """Return the median of a figure over the repetitions, with its spread."""
    if not all(repetitions):
        return "does not fit"
    return middle([found[name] / unit for found in repetitions], digits)


def errors(repetitions: list[dict[str, Any]]) -> str:
    """Return the largest relative error of the predicted peak."""
    found = [of["predicted_bytes"] / of["peak_bytes"] - 1 for of in repetitions if of]
    return f"{max(found, key=abs):+.0%}" if found else ""


def ratio(case: dict[str, Any], name: str) -> str:
    """Return packed over stock, the median of the repetitions' ratios: both sides of one had the same pairs."""
    both = zip(case["repetitions"]["packed"], case["repetitions"]["stock"], strict=True)
    ratios = [ours[name] / theirs[name] for ours, theirs in both if ours and theirs]
    return f"{statistics.median(ratios):.2f}x" if ratios else ""


def mfu(case: dict[str, Any], repetitions: list[dict[str, Any]], rate: float) -> str:
    """Return the share of the measured matmul rate that useful tokens make; recomputation and attention left out."""
    shape = SHAPES[case["model"]]
    weights = parameters(shape) - head_parameters(shape)  # a look-up in the embedding is no product
    per_token = (6 if case["tuning"] == "full" else 4) * weights
    if not all(repetitions):
        return " |"
    return f"{statistics.median(of['useful_tokens_per_second'] for of in repetitions) * per_token / rate:.0%} |"


def summary(case: dict[str, Any]) -> str:
    """Return one line about a setting."""
    ours, stock = (case["repetitions"][engine] for engine in ("packed", "stock"))
    return (
        f"{case['model']}, {case['lengths']}, {case['tuning']}, {case['batch_size']} pairs: "
        f"packed {spread(ours, 'pairs_per_second', 1, 2)} pairs/s, stock {spread(stock, 'pairs_per_second', 1, 2)}: "
        f"{ratio(case, 'pairs_per_second')}; peak {spread(ours, 'peak_bytes', 1e9, 2)} GB (predicted "
        f"{errors(ours)}), stock {spread(stock, 'peak_bytes', 1e9, 2)} ({errors(stock)}): {ratio(case, 'peak_bytes')}"
    )


def publish(results: dict[str, Any], directory: Path) -> Path:
    """Write all files, each whole or not at all; the page last. Returns the page."""
    rate = results["matmul_flops_per_second"]
    template = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(PAGE.read_text())
    page = template.render(
        **{name: None for name in ("engines", "agreement", "pipelines", "tokenise")} | results,
        **{"day": date.today().isoformat(), "made": MADE, "spread": spread, "errors": errors, "ratio": ratio},
        **{"middle": middle, "mfu": lambda case, of: mfu(case, of, rate)},
    )
    directory.mkdir(parents=True, exist_ok=True)
    if results.get("engines"):
        plot(results["engines"], "pairs_per_second", 1, "pairs per second", directory / "bench-speed.svg")
        plot(results["engines"], "peak_bytes", 1e9, "peak memory, GB", directory / "bench-memory.svg")
    write_json(directory / "bench.json", results)
    write_text(directory / "bench.md", page)
    return directory / "bench.md"


def plot(cases: list[dict[str, Any]], name: str, unit: float, label: str, path: Path) -> None:
    """Draw a figure against the pairs of a batch, one panel for each model, length distribution and tuning."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"  # the same figures are the same file
    from matplotlib import pyplot

    panels = list(dict.fromkeys((case["model"], case["lengths"], case["tuning"]) for case in cases))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(3.2 * len(panels), 3), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for engine, colour in (("stock", "tab:gray"), ("packed", "tab:blue")):
            points = [
                (case["batch_size"], [of[name] / unit for of in case["repetitions"][engine] if of])
                for case in cases
                if (case["model"], case["lengths"], case["tuning"]) == panel
            ]
            points = [(size, values) for size, values in points if values]
            middles = [statistics.median(values) for _, values in points]
            bars = [[at - min(of) for at, (_, of) in zip(middles, points, strict=True)]]
            bars += [[max(of) - at for at, (_, of) in zip(middles, points, strict=True)]]
            sizes = [size for size, _ in points]
            axis.errorbar(sizes, middles, bars, marker="o", capsize=3, color=colour, label=engine)
        axis.set(title="\n".join([panel[1], f"{panel[0]}, {panel[2]}"]), xlabel="pairs in a batch", ylim=(0, None))
    axes[0][0].set_ylabel(label)
    axes[0][-1].legend()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    temporary.replace(path)
