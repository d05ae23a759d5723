"""Results from the outcomes: rates, ratios of the engines, and goals."""

import statistics
from dataclasses import dataclass
from typing import Any

from dev.gpu.job import MEASURED

AUTOMODEL = 12_473  # tokens/s of NeMo Automodel's LoRA on Llama-3-8B, one H100, its 402 TFLOP/s: anchors.yaml
Figures = dict[str, Any]
Setting = dict[str, list[Figures]]  # engine -> its repetitions
MATMUL = "matrix product"


@dataclass(frozen=True)
class Goal:
    """A bound, and the figures that must all meet it."""

    text: str
    values: list[float]
    least: float = float("-inf")
    most: float = float("inf")

    @property
    def reached(self) -> bool:
        """Whether every figure is within the bound."""
        return all(self.least <= value <= self.most for value in self.values)


def figures(results: dict[str, Any], part: str) -> dict[str, Figures]:
    """Return the figures of a part's measured jobs, by name."""
    named = {tuple(key.split(": ", 1)): outcome for key, outcome in results["jobs"].items()}
    return {name: of["figures"] for (own, name), of in named.items() if own == part and of["status"] == MEASURED}


def matmul_rate(results: dict[str, Any]) -> float | None:
    """Return the measured FLOP/s of a large matrix product, if it was measured."""
    found = figures(results, "exactness").get(MATMUL)
    return found["flops_per_second"] if found else None


def families(results: dict[str, Any]) -> dict[str, Figures]:
    """Return the results of the model families' comparisons."""
    return {name: found for name, found in figures(results, "exactness").items() if name != MATMUL}


def settings(results: dict[str, Any]) -> dict[str, Setting]:
    """Return the repetitions of every setting of `speed`, by engine."""
    found: dict[str, Setting] = {}
    for name, of in figures(results, "speed").items():
        setting, engine, _ = name.rsplit(", ", 2)
        found.setdefault(setting, {"packed": [], "stock": []})[engine].append(of)
    return found


def fitting(repetitions: list[Figures]) -> bool:
    """Whether there are repetitions, and all fit into memory."""
    return bool(repetitions) and all(of["fits"] for of in repetitions)


def median(repetitions: list[Figures], name: str) -> float:
    """Return the median of a figure."""
    return statistics.median(of[name] for of in repetitions)


def ratio(setting: Setting, name: str) -> float | None:
    """Return packed over stock of a figure's medians; None where an engine is missing or ran out of memory."""
    if not all(fitting(repetitions) for repetitions in setting.values()):
        return None
    return median(setting["packed"], name) / median(setting["stock"], name)


def flop_rate(repetitions: list[Figures]) -> float:
    """Return the median FLOP/s of useful tokens: 6 per weight and token, 4 for frozen weights."""
    return statistics.median(of["useful_tokens_per_second"] * of["flops_per_token"] for of in repetitions)


def memory_errors(found: dict[str, Setting]) -> list[float]:
    """Return the relative errors of the predicted peaks."""
    fits = [of for setting in found.values() for side in setting.values() for of in side if of["fits"]]
    return [of["predicted_bytes"] / of["peak_bytes"] - 1 for of in fits]


def goals(results: dict[str, Any]) -> list[Goal]:
    """Return the goals that have figures."""
    found, rate = settings(results), matmul_rate(results)
    exact = [of["exact"] for of in families(results).values()]

    def ratios(name: str, *words: str) -> list[float]:
        named = [ratio(of, name) for setting, of in found.items() if any(word in setting for word in words)]
        return [value for value in named if value is not None]

    def sides(setting: str) -> list[list[Figures]]:
        return [of["packed"] for name, of in found.items() if name.startswith(setting) and fitting(of["packed"])]

    tokens = [median(side, "useful_tokens_per_second") / AUTOMODEL for side in sides("llama-3-8b, lora, all")]
    products = [flop_rate(side) / rate for side in sides("phi-3-mini, full")] if rate else []
    errors = memory_errors(found)
    wanted = [
        Goal("packed passes are exact, of all families", [sum(exact) / len(exact)] if exact else [], least=1),
        Goal("2.5 times stock TRL's pairs/s on HH-RLHF's lengths", ratios("pairs_per_second", "hh-rlhf"), least=2.5),
        Goal("twice stock TRL's pairs/s on UltraFeedback's lengths", ratios("pairs_per_second", "ultraf"), least=2),
        Goal(
            "half of stock TRL's memory or less above the loaded model, there",
            ratios("peak_bytes", "hh-rlhf", "ultraf"),
            most=0.5,
        ),
        Goal("45% of the measured matmul rate, Phi-3-mini full", products, least=0.45),
        Goal("90% of Automodel's 12,473 tokens/s, Llama-3-8B LoRA, even", tokens, least=0.9),
        Goal("memory forecast within 15%: largest error", [max(errors, key=abs)] if errors else [], -0.15, 0.15),
    ]
    return [goal for goal in wanted if goal.values]
