"""The page docs/gpu.md and its plot, from the measurements so far."""

from datetime import date
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

from dev.bench.report import middle, save
from dev.gpu import results as of
from dev.gpu.job import MEASURED
from recipes.config import write_text

HERE = Path(__file__).parent
PLOT = "gpu-speed.svg"


def publish(results: dict[str, Any], directory: Path) -> None:
    """Write plot and page, each whole or not at all."""
    found, rate = of.settings(results), of.matmul_rate(results)
    drawn = {name: setting for name, setting in found.items() if of.ratio(setting, "pairs_per_second")}
    if drawn:
        draw(drawn, directory / PLOT)
    commits = {
        str(job.get("commit") or "unknown")[:10] for job in results["jobs"].values() if job["status"] == MEASURED
    }
    recipes = of.figures(results, "recipes")
    template = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    page = template.from_string((HERE / "page.md.jinja").read_text()).render(
        machine=results["machine"],
        day=date.today().isoformat(),
        rate=rate,
        plot=PLOT if drawn else None,
        commits=sorted(commits),
        data=results["data"],
        goals=of.goals(results),
        families=of.families(results),
        killed=recipes.pop("killed and resumed", None),
        recipes=recipes,
        speeds=[row for name, setting in found.items() for row in rows(name, setting, rate)],
        pipelines=pipeline_rows(of.figures(results, "pipelines")),
        changes=of.figures(results, "changes"),
        generation=of.figures(results, "generation"),
        missing={key: job for key, job in results["jobs"].items() if job["status"] != MEASURED},
        anchors=yaml.safe_load((HERE / "anchors.yaml").read_text()),
    )
    write_text(directory / "gpu.md", page)


def rows(name: str, setting: of.Setting, rate: float | None) -> list[list[str]]:
    """Return a setting's rows of the table: one per engine, and packed over stock if both were measured."""
    found = [[name, *row(engine, side, rate)] for engine, side in setting.items() if side]
    pairs, memory = (of.ratio(setting, figure) for figure in ("pairs_per_second", "peak_bytes"))
    if pairs and memory:
        found.append(["", "**packed over stock**", f"**{pairs:.2f}x**", "", "", "", "", f"**{memory:.2f}x**", ""])
    return found


def row(engine: str, side: list[of.Figures], rate: float | None) -> list[str]:
    """Return one engine's figures as text: medians, with the range if there are several repetitions."""
    if not of.fitting(side):
        return [engine, "out of memory", *[""] * 6]
    worst = max((each["predicted_bytes"] / each["peak_bytes"] - 1 for each in side), key=abs)
    flops = of.flop_rate(side)
    return [
        engine + (", checkpointed" if side[0]["checkpointing"] else ""),
        middle([each["pairs_per_second"] for each in side], 2),
        middle([each["useful_tokens_per_second"] for each in side], 0),
        middle([each["computed_tokens_per_second"] for each in side], 0),
        f"{flops / 1e12:.3g}",
        f"{flops / rate:.0%}" if rate else "?",
        middle([each["peak_bytes"] / 1e9 for each in side], 2),
        f"{worst:+.0%}",
    ]


def pipeline_rows(found: dict[str, of.Figures]) -> list[list[str]]:
    """Return each pipeline's costs, and the errors of its stages' forecasts."""
    rows = []
    for name, job in found.items():
        for pipeline, cost in job["costs"].items():
            planned = [job["forecasts"][stage] for stage in cost["stages"]]
            seconds = sum(stage["seconds"] for stage in planned) / cost["device_seconds"] - 1
            memory = max(stage["bytes"] for stage in planned) / cost["peak_memory_bytes"] - 1
            figures = [f"{cost['device_seconds']:.1f}", f"{seconds:+.0%}", f"{cost['flops']:.3g}"]
            figures += [f"{cost['peak_memory_bytes'] / 1e9:.2f}", f"{memory:+.0%}"]
            rows.append([name, pipeline.replace("->", "→"), str(job["pairs"]), *figures])
    return rows


def draw(drawn: dict[str, of.Setting], path: Path) -> None:
    """Draw pairs per second and peak memory of both engines, two bars per setting."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 0.7 + 0.55 * len(drawn)), sharey=True)
    panels = (("pairs_per_second", 1, "pairs per second"), ("peak_bytes", 1e9, "peak memory, GB"))
    for axis, (name, unit, label) in zip(axes, panels, strict=True):
        for offset, engine, colour in ((0.2, "stock", "tab:gray"), (-0.2, "packed", "tab:blue")):
            values = [of.median(setting[engine], name) / unit for setting in drawn.values()]
            places = [place + offset for place in range(len(drawn))]
            bars = axis.barh(places, values, 0.38, color=colour, label=engine)
            axis.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=8)
        axis.set(xlabel=label, yticks=range(len(drawn)), yticklabels=list(drawn))
        axis.margins(x=0.12)
    axes[0].invert_yaxis()
    axes[1].legend()
    save(figure, path)
