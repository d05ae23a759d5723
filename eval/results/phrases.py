"""The phrases of the answer: costs, odds, losses, and what to do where nothing is sure."""

from collections.abc import Iterator
from typing import Any

from eval.results.deciding import STRONG
from eval.results.metric import Measured, percent
from eval.results.metrics import FLOPS, JUDGE, METRIC, SECONDS
from eval.results.statistics import NONE, WORSE

Row = dict[str, Any]  # as `eval.results.rows.as_json` makes it
# What a pipeline does that is worse in a metric; of a metric without words here, its label says it.
LOST = {
    "right_greedy": "states the right fact less often when decoding greedily",
    "right_sampled": "states the right fact less often",
    "forgetting": "ends with a higher loss on plain text, in nats per token beside the base model's",
}
MORE = "use more prompts (eval_prompts=, dataset.test_fraction=) or seeds (seed=0,1,2)"
LOSSES = 3  # said in the sentence about what a pipeline lost
BY_HAND = "compare the responses yourself (`make judge`)"


def said(found: dict[str, Any]) -> str:
    """Return a comparison's verdict in brackets; nothing where none was asked for."""
    return "" if found["verdict"] == NONE else f" ({found['verdict']})"


def lost(row: Row, others: list[Row]) -> Iterator[str]:
    """Say in what a pipeline is surely worse than others: every metric with a direction is asked.

    Log-probs of the held-out pairs are left out: each method trains on one of them, and none says what a model answers.
    """
    for key, found in row.get("differences", {}).items():
        metric = METRIC[key]
        worse = [other for other in others if found.get(other["pipeline"], {}).get("verdict") == WORSE]
        if worse and isinstance(metric, Measured) and metric.of != "pairs":
            theirs = [f"{other['label']}'s {metric.text(other['values'][key]['mean'])}" for other in worse]
            figures = f"{metric.text(row['values'][key]['mean'])} against {listed(theirs)}"
            yield f"{LOST.get(key, f'is worse in {metric.label}')} ({figures})"


def but(losses: list[str]) -> str:
    """Add what was lost to a sentence; what is beyond a few is counted."""
    if len(losses) > LOSSES:
        losses = [
            *losses[: LOSSES - 1],
            f"{len(losses) - LOSSES + 1} other rows are surely worse (▼ in the table)",
        ]
    return f"; but {listed(losses)}" if losses else ""


def cost(row: Row, other: Row) -> str:
    """Say what a pipeline costs beside another; nothing where neither FLOPs nor seconds are known."""
    found = relative(row, other)
    if found is None:
        return ""
    ratio, unit = found
    return f" for as many {unit}" if round(ratio, 2) == 1 else f" for {ratio:.2f} times its {unit}"


def costs(rows: list[Row]) -> str:
    """Say what each pipeline costs beside the cheapest; nothing where neither FLOPs nor seconds are known."""
    for metric in (FLOPS, SECONDS):
        paid = {row["label"]: row["values"].get(metric.key) for row in rows}
        if all(paid.values()):
            (cheapest, least), *others = sorted(paid.items(), key=lambda one: one[1])
            (first, most), *further = [(label, f"{value / least:.2f}") for label, value in others]
            told = [f"{first} takes {most} times its {metric.label}", *(" ".join(one) for one in further)]
            return f"{cheapest} is the cheapest: {listed(told)}."
    return ""


def relative(row: Row, other: Row) -> tuple[float, str] | None:
    """Return a pipeline's cost as a multiple of another's, and its unit: FLOPs, or device-seconds without them."""
    for metric in (FLOPS, SECONDS):
        ours, theirs = (one["values"].get(metric.key) for one in (row, other))
        if ours and theirs:
            return ours / theirs, metric.label
    return None


def cheapest(row: Row, other: Row) -> str | None:
    """Return the name of the cheaper of two pipelines; None if they cost the same."""
    ratio, _ = relative(row, other) or (1.0, "")
    return None if round(ratio, 2) == 1 else (row if ratio < 1 else other)["label"]


def odds(rate: float) -> str:
    """Return a win rate as `62 : 38`."""
    won = round(100 * rate)
    return f"{won} : {100 - won}"


def findable(sizes: list[float | None], whose: str) -> str:
    """Say which win rate could have been found, ` for` which pipeline, and what to do to find a smaller one."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        which = "For some of these pipelines no" if known else "No"
        return f"{which} win rate could have been found with so few prompts or seeds: {MORE}."
    found = f"A true win rate of {percent(0.5 + max(known))}{whose} would have been found with probability 80%"
    return f"{found}; to find a smaller one, {MORE}."


def too_weak(row: Row) -> str:
    """Say how weak the judge is, and what to do."""
    found = row["values"][JUDGE.key]
    accuracy = f"{percent(found['mean'])} [{percent(found['low'])}, {percent(found['high'])}]"
    return (
        f"It ranks {accuracy} of held-out pairs right, and the interval must lie above {percent(STRONG)}: hold out "
        "more pairs if there are few (dataset.test_fraction=), give it more to learn from (dataset.judge_fraction=), "
        f"name a better one (judge=reward:<model>), or {BY_HAND}."
    )


def listed(parts: list[str]) -> str:
    """Return parts as an enumeration."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
