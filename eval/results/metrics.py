"""What a row's numbers are made of: arrays and sums of evaluations and records, a list of one a seed."""

from typing import Any

import numpy as np

from eval.results.statistics import estimate

WIN = "win rate"
PASSES = "forward passes per pair and epoch of the last stage"


def compared_by(results: list[dict[str, Any]]) -> tuple[dict[str, np.ndarray], str]:
    """Return what pipelines are compared by, and what decides a win: gold rewards where there are any, else ranks."""
    ranked = ranked_right(results)
    if "gold" not in results[0]["sampled"][0]:
        return {WIN: ranked}, "held-out pairs ranked right by mean log-prob"
    right = answers(results, "greedy", "right")
    outcomes = {WIN: answers(results, "sampled", "gold"), "right fact, greedy": right, "pairs ranked right": ranked}
    return outcomes, "gold reward of the answers at temperature 1"


def answers(results: list[dict[str, Any]], kind: str, key: str) -> np.ndarray:
    """Return one number of every answer, shape (seeds, prompts)."""
    return np.array([[answer[key] for answer in result[kind]] for result in results], dtype=float)


def log_probs(results: list[dict[str, Any]], key: str) -> np.ndarray:
    """Return the mean log-probs of the held-out answers, shape (seeds, pairs)."""
    return np.array([result[key] for result in results])


def ranked_right(results: list[dict[str, Any]]) -> np.ndarray:
    """Return 1 where the chosen answer is the likelier one per token."""
    return (log_probs(results, "chosen") > log_probs(results, "rejected")).astype(float)


def quality(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is measured of a model."""
    gold = "gold" in results[0]["sampled"][0]
    chosen, rejected = log_probs(results, "chosen"), log_probs(results, "rejected")
    stopped = float(answers(results, "sampled", "stopped").mean())
    return {
        "gold reward, temperature 1": estimate(answers(results, "sampled", "gold")) if gold else None,
        "gold reward, greedy": estimate(answers(results, "greedy", "gold")) if gold else None,
        "right fact, greedy": estimate(answers(results, "greedy", "right")) if gold else None,
        "log-prob of chosen": estimate(chosen),
        "log-prob of rejected": estimate(rejected),
        "gap, chosen - rejected": estimate(chosen - rejected),
        "pairs ranked right": estimate(ranked_right(results)),
        "stopped by itself": stopped,
        "cut off at max_new_tokens": 1 - stopped,
        "mean length, tokens": float(answers(results, "sampled", "tokens").mean()),
    }


def spent(records: list[list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Return what a pipeline cost with each seed: sums over its stages; memory is the largest of its stages."""

    def total(key: str) -> np.ndarray:
        return np.array([sum(record[key] for record in stages) for stages in records], dtype=float)

    peaks = [max(record["peak_memory_bytes"] for record in stages) / 1e9 for stages in records]
    return {
        "device-seconds": total("device_seconds"),
        "peak memory, GB": np.array(peaks),
        "pairs read": total("pairs"),
        "tokens": total("tokens"),
        "tokens computed": total("computed_tokens"),
        "forward passes per pair": total("forward_passes_per_pair"),
        "FLOPs": total("flops"),
        PASSES: np.array([stages[-1]["forward_passes_per_pair"] / stages[-1]["epochs"] for stages in records]),
    }


def cost(records: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what a pipeline cost: the mean over its seeds, the largest of memory, and what engines it ran on."""
    engines = dict.fromkeys(record.get("engine", "TRL") for stages in records for record in stages)
    found = spent(records)
    means = {key: float(values.mean()) for key, values in found.items()}
    return {"engine": ", ".join(engines)} | means | {"peak memory, GB": float(found["peak memory, GB"].max())}
