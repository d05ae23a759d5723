"""The best setting of each method in a sweep, under equal budgets."""

from math import comb

from eval.results.deciding import deciding, several_judges
from eval.results.metrics import ACCURACY, Measured
from eval.results.options import text
from eval.results.row import Row
from eval.results.rows import NAMES
from eval.results.statistics import ABSENT
from recipes.methods import METHODS

Tried = dict[tuple[str | None, str], list[Row]]  # base model (None: there is one) and pipeline -> settings


def tried(rows: list[Row]) -> Tried:
    """Return the settings of each base model's pipelines, each training once: an option changes its method alone.

    A base model is nothing to choose: a comparison of two asks for the best settings of each.
    """
    found: dict[tuple[str | None, str], dict[str, Row]] = {}
    for row in rows:
        if row.stages:
            found.setdefault((row.setting.model, row.pipeline), {}).setdefault(str(row.directories), row)
    return {pipeline: list(settings.values()) for pipeline, settings in found.items()}


def is_sweep(rows: list[Row]) -> bool:
    """Whether a method was trained under several settings of one base model, and something can choose among them."""
    several = any(len(settings) > 1 for settings in tried(rows).values())
    return several and all(row.values[outcome(rows).key] is not None for row in rows if row.stages)


def outcome(rows: list[Row]) -> Measured:
    """Return the outcome by which settings are chosen; higher is better."""
    return deciding([row for row in rows if row.stages])


def best_settings(rows: list[Row]) -> list[list[str]]:
    """Return each method's best setting, head first.

    More settings give a better best one. The last column corrects for that: the mean best over all subsets as large as
    the smallest number of settings that a method tried.
    """
    metric, methods = outcome(rows), tried(rows)
    fewest = min(map(len, methods.values()))
    lines = [["method", "settings tried", "best setting", metric.label, f"expected best of {fewest}"]]
    for (model, pipeline), settings in methods.items():
        values = [row.estimate(metric.key).mean for row in settings]
        best = settings[values.index(max(values))]
        alike = metric.text(expected_best(values, fewest))
        own = " ".join(f"{option}={value}" for option, value in options(best).items() if option != "model")
        words = [title(model, pipeline), str(len(settings)), own or ABSENT, metric.text(max(values)), alike]
        lines.append(words)
    return lines


def title(model: str | None, pipeline: str) -> str:
    """Return a pipeline's name, behind that of its base model if there are several."""
    name = NAMES.get(pipeline, pipeline)
    return f"{model}: {name}" if model else name


def budgets(rows: list[Row]) -> str:
    """Say whether the methods tried equally many settings, and what to compare if they did not."""
    counts, chosen = {len(settings) for settings in tried(rows).values()}, chosen_by(rows)
    if len(counts) == 1:
        return f"The best setting of each method{chosen}. Budgets are equal: {counts.pop()} settings each."
    return (
        f"The best setting of each method{chosen}. Budgets are not equal: compare the last column, the mean best of "
        f"any {min(counts)} of a method's settings."
    )


def chosen_by(rows: list[Row]) -> str:
    """Say why a judge's reward does not choose, if it does not."""
    trained = [row for row in rows if row.stages]
    if not any(row.judged for row in trained) or outcome(rows) is not ACCURACY:
        return ""
    why = "each setting has its own judge" if several_judges(trained) else "the judge is too weak to choose"
    return f", by {ACCURACY.label}, as {why}"


def expected_best(values: list[float], count: int) -> float:
    """Return the mean, over all subsets of `count` values, of their largest; `count` is at most their number.

    The value with i smaller ones is the largest of C(i, count - 1) subsets; after Dodge et al. (2019,
    arXiv 1909.03004), who draw with replacement.
    """
    shares = [comb(smaller, count - 1) / comb(len(values), count) for smaller in range(len(values))]
    return sum(share * value for share, value in zip(shares, sorted(values), strict=True))


def options(row: Row) -> dict[str, str]:
    """Return the swept options that affect a row, without those of stages that it does not train."""
    stages = {*METHODS} - {*row.stages}
    return {name: text(value) for name, value in row.setting.items() if name.split(".")[0] not in stages}
