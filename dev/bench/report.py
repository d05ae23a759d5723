"""The results as a file, a page and plots: docs/bench.json, bench.md and four plots."""

import os
import platform
import statistics
from datetime import date
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment

from dev.bench.shapes import MADE, SHAPES
from launch.config.shape import head_parameters, parameters
from recipes.config import write_json, write_text
from recipes.system.versions import provenance, versions

PAGE = Path(__file__).with_name("page.md.jinja")
FIGURES = (("pairs_per_second", 1, "pairs per second", "speed"), ("peak_bytes", 1e9, "peak memory, GB", "memory"))


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
    """Return packed over stock: the ratio of medians, with the smallest and largest ratio of a repetition.

    Both sides of a repetition had the same pairs; a repetition in which memory ran out does not count.
    """
    both = zip(case["repetitions"]["packed"], case["repetitions"]["stock"], strict=True)
    sides = [(ours[name], theirs[name]) for ours, theirs in both if ours and theirs]
    if not sides:
        return ""
    ours, theirs = (statistics.median(side) for side in zip(*sides, strict=True))
    ratios = [one / other for one, other in sides]
    return f"{ours / theirs:.2f}x" + (f" ({min(ratios):.2f}-{max(ratios):.2f})" if len(ratios) > 1 else "")


def mfu(case: dict[str, Any], repetitions: list[dict[str, Any]], rate: float) -> str:
    """Return useful tokens' share of the measured matmul rate, without recomputation and attention."""
    shape = SHAPES[case["model"]]
    # an embedding look-up is no matrix product, but the LM head is one, also where both are one matrix
    weights = parameters(shape) - (0 if shape.tied else head_parameters(shape))
    per_token = (6 if case["tuning"] == "full" else 4) * weights
    if not all(repetitions):
        return " |"
    return f"{statistics.median(of['useful_tokens_per_second'] for of in repetitions) * per_token / rate:.0%} |"


def summary(case: dict[str, Any]) -> str:
    """Return one line on a setting."""
    ours, stock = (case["repetitions"][engine] for engine in ("packed", "stock"))
    return (
        f"{case['model']}, {case['lengths']}, {case['tuning']}, {case['batch_size']} pairs: "
        f"packed {spread(ours, 'pairs_per_second', 1, 2)} pairs/s, stock {spread(stock, 'pairs_per_second', 1, 2)}: "
        f"{ratio(case, 'pairs_per_second')}; peak {spread(ours, 'peak_bytes', 1e9, 2)} GB (predicted "
        f"{errors(ours)}), stock {spread(stock, 'peak_bytes', 1e9, 2)} ({errors(stock)}): {ratio(case, 'peak_bytes')}"
    )


def publish(results: dict[str, Any], directory: Path) -> Path:
    """Write all files, each whole or not at all, the page last. Returns the page."""
    rate = results["matmul_flops_per_second"]
    template = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(PAGE.read_text())
    page = template.render(
        **{name: None for name in ("engines", "agreement", "pipelines", "tokenise")} | results,
        **{"day": date.today().isoformat(), "made": MADE, "spread": spread, "errors": errors, "ratio": ratio},
        by_length=any(case["lengths"] not in MADE for case in results.get("engines", [])),
        **{"middle": middle, "mfu": lambda case, of: mfu(case, of, rate)},
    )
    directory.mkdir(parents=True, exist_ok=True)
    if results.get("engines"):
        draw(results["engines"], directory)
    write_json(directory / "bench.json", results)
    write_text(directory / "bench.md", page)
    return directory / "bench.md"


def draw(cases: list[dict[str, Any]], directory: Path) -> None:
    """Draw speed and memory against the pairs in a batch, and against the length of dialogues of equal length."""
    sizes = [(panel_of(case), case["batch_size"], case) for case in cases if case["lengths"] in MADE]
    even = [case for case in cases if case["lengths"] not in MADE]
    tokens = [(f"{case['batch_size']} pairs, {case['model']}", int(case["lengths"].split()[1]), case) for case in even]
    for name, unit, label, file in FIGURES:
        plot(sizes, name, unit, label, "pairs in a batch", directory / f"bench-{file}.svg")
        if tokens:
            below = "tokens of every dialogue"
            plot(tokens, name, unit, label, below, directory / f"bench-{file}-length.svg")


def panel_of(case: dict[str, Any]) -> str:
    """Return the title of a case's panel."""
    return f"{case['lengths']}\n{case['model']}, {case['tuning']}"


def plot(
    points: list[tuple[str, int, dict[str, Any]]], name: str, unit: float, label: str, below: str, path: Path
) -> None:
    """Draw a figure of cases, each given with its panel's title and its position on the horizontal axis."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys(panel for panel, *_ in points))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(3.2 * len(panels), 3), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for engine, colour in (("stock", "tab:gray"), ("packed", "tab:blue")):
            drawn = [
                (place, [of[name] / unit for of in case["repetitions"][engine] if of])
                for title, place, case in points
                if title == panel
            ]
            drawn = [(place, values) for place, values in drawn if values]
            middles = [statistics.median(values) for _, values in drawn]
            bars = [[at - min(of) for at, (_, of) in zip(middles, drawn, strict=True)]]
            bars += [[max(of) - at for at, (_, of) in zip(middles, drawn, strict=True)]]
            places = [place for place, _ in drawn]
            axis.errorbar(places, middles, bars, marker="o", capsize=3, color=colour, label=engine)
        axis.set(title=panel, xlabel=below, ylim=(0, None))
    axes[0][0].set_ylabel(label)
    axes[0][0].legend()
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG, whole or not at all; the same figures are the same file."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    temporary.replace(path)
