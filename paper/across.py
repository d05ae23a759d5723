"""Claims about λ, the ratio and the model's size, measured by comparing a session's settings."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from eval.results.deciding import outcomes, prompts_of, scored_by
from eval.results.lineage import lineage
from eval.results.metrics import WIN
from eval.results.row import Row
from eval.results.statistics import estimate
from paper.evidence import CONTRADICTED, SUPPORTED, Finding, Rows, both, compare_likelihood, interval, judge
from paper.ratios import sample, summary
from recipes.config import read_config


def sharper(_: object) -> Finding:
    """Compare the spreads of figure 6's ratios, which need no model."""
    found = summary(sample())
    probability, odds = found["log PR, β = 1.0"]["deviation"], found["log OR"]["deviation"]
    measured = f"standard deviation of log PR (β = 1) {probability:.2f}, of log OR {odds:.2f}"
    return Finding(measured, "none: by definition", SUPPORTED if probability < odds else CONTRADICTED)


def lambdas(settings: list[Rows]) -> Finding | None:
    """Compare ORPO with the largest and the smallest λ of the session: margin, and chosen responses."""
    found = differing(settings, {"orpo"}, weight, all_but("orpo.beta"))
    if len(found) < 2:
        return None
    (least, small), (most, large) = found[0], found[-1]
    margin, chosen = (compare_likelihood(answer, large["orpo"], small["orpo"]) for answer in ("odds", "chosen"))
    if not margin or not chosen:
        return None
    measured = f"λ {most:g} - λ {least:g}: log-odds ratio {margin.mean:+.3f}, log-prob of chosen {chosen.mean:+.3f}"
    return both(measured, (margin.low, margin.high, 1), (chosen.low, chosen.high, -1))


def probability_ratio(settings: list[Rows]) -> Finding | None:
    """Compare ORPO on the probability ratio with ORPO on the odds ratio; the verdict is on rejected responses."""
    found = differing(settings, {"orpo"}, on_probabilities, all_but("orpo.ratio"))
    if len(found) < 2:
        return None
    (_, odds), (_, probabilities) = found[0], found[-1]
    rejected, chosen = (
        compare_likelihood(answer, probabilities["orpo"], odds["orpo"]) for answer in ("rejected", "chosen")
    )
    if not rejected or not chosen:
        return None
    measured = f"PR - OR: log-prob of rejected {rejected.mean:+.3f}, of chosen {chosen.mean:+.3f}"
    spread = ", ".join(interval(part.low, part.high, "{:+.3f}") for part in (rejected, chosen))
    return Finding(measured, spread, judge(rejected.low, rejected.high, -1))


def sizes(settings: list[Rows]) -> Finding | None:
    """Compare ORPO's win rate over DPO between the session's largest and smallest model, prompt by prompt."""
    found = differing(settings, {"orpo", "dpo"}, parameters, lambda row: (weight(row), on_probabilities(row)))
    if len(found) < 2:
        return None
    (small, least), (large, most) = found[0], found[-1]
    rows = [setting[name] for setting in (most, least) for name in ("orpo", "dpo")]
    seeds = [seed for seed in rows[0].seeds if all(seed in row.seeds for row in rows)]
    if not seeds or len({prompts_of(row) for row in rows}) > 1:
        return None
    change = estimate(points(most, seeds) - points(least, seeds), outcomes(rows[0])[WIN].clusters(rows[0]))
    by = scored_by(rows[0])
    measured = f"win rate {by}, {large:,} - {small:,} parameters: {100 * change.mean:+.1f} points"
    spread = interval(100 * change.low, 100 * change.high, "{:+.1f}")
    return Finding(measured, spread, judge(change.low, change.high, 1))


def points(rows: Rows, seeds: list[int]) -> np.ndarray:
    """Return ORPO's points against DPO for each seed and prompt: 1 for a win, a half for a tie."""
    ours, theirs = (outcomes(rows[name])[WIN].of_seeds(rows[name], seeds) for name in ("orpo", "dpo"))
    return (ours > theirs) + 0.5 * (ours == theirs)


def differing(
    settings: list[Rows], pipelines: set[str], by: Callable[[Row], float], alike: Callable[[Row], Hashable]
) -> list[tuple[float, Rows]]:
    """Return the settings with these pipelines, one per value of `by`, in its order.

    Of the groups of settings that agree in `alike`, the one with the most values is taken.
    """
    groups: dict[Hashable, dict[float, Rows]] = {}
    having = [rows for rows in settings if pipelines <= set(rows)]
    for rows in having if len(having) > 1 else []:
        groups.setdefault(alike(rows["orpo"]), {}).setdefault(by(rows["orpo"]), rows)
    found = max(groups.values(), key=len, default={})
    return sorted(found.items(), key=lambda pair: pair[0])


def all_but(option: str) -> Callable[[Row], Hashable]:
    """Return a function that names all options of a row of ORPO except one."""
    return lambda row: tuple(sorted({**lineage(row.directories[0][-1]), option: ""}.items()))


def config_of(row: Row) -> dict[str, Any]:
    """Return the configuration of a row's last stage, the same for all seeds."""
    return read_config(row.directories[0][-1])


def weight(row: Row) -> float:
    """Return the λ that a row of ORPO was trained with; TRL calls it beta."""
    return config_of(row)["options"]["beta"]


def on_probabilities(row: Row) -> float:
    """Return 1 where a row of ORPO was trained on the probability ratio, 0 where on the odds ratio."""
    return float(config_of(row)["options"].get("ratio", "odds") == "probability")


def parameters(row: Row) -> int:
    """Return the size of a row's model."""
    return config_of(row)["model"]["parameters"] or 0
