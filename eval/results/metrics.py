"""The rows of the table, in order: what each is called, how its number is printed, and what it is computed from.

A new row is one more `eval.results.metric.Metric` in `METRICS` and a line in docs/reading.md. Where it needs what is
not measured yet, `eval.results.measure` measures that too, and models whose measurement lacks it are measured again.
"""

from collections.abc import Callable

import numpy as np

from eval.results.metric import COST, ENDINGS, Computed, Cost, Likelihood, Measured, Metric, decimals, percent
from eval.results.result import Result
from eval.results.row import Record, Row, Value
from eval.results.statistics import Estimate, share

WIN = "win_rate"  # the outcome by which pipelines are compared first
PEOPLE = "people"  # the outcome that people vote on


def greedy(key: str) -> Callable[[Result], list[float]]:
    """Return what reads one number of every greedy response."""
    return lambda result: [response[key] for response in result["greedy"]]


def sampled(key: str) -> Callable[[Result], list[list[float]]]:
    """Return what reads one number of every response at temperature 1: a list of its samples for each prompt."""
    return lambda result: [
        [response[key] for response in (first, *further)]
        for first, further in zip(result["sampled"], result["further"], strict=True)
    ]


def log_probs(side: str) -> Callable[[Result], list[float]]:
    """Return what reads the mean log-prob of every `chosen` or `rejected` held-out response."""
    return lambda result: result[side]


def margins(result: Result) -> list[float]:
    """Return how much likelier each chosen response is than the rejected one, in nats per token."""
    return [chosen - rejected for chosen, rejected in zip(result["chosen"], result["rejected"], strict=True)]


def preferred(result: Result) -> list[float]:
    """Return 1 where the chosen response is the likelier one per token."""
    return [float(chosen > rejected) for chosen, rejected in zip(result["chosen"], result["rejected"], strict=True)]


def by_sums(result: Result) -> list[float]:
    """Return 1 where the chosen response is the likelier one as a whole, whatever the lengths."""
    return [float(chosen > rejected) for chosen, rejected in zip(*summed(result, result), strict=True)]


def by_implicit_reward(result: Result) -> list[float]:
    """Return 1 where beta (log p - log p_ref) of the whole response is higher for the chosen one."""
    own, reference = summed(result, result), summed(result["reference"], result)
    chosen, rejected = (np.subtract(*both) for both in zip(own, reference, strict=True))
    return (result["reference"]["beta"] * (chosen - rejected) > 0).astype(float).tolist()


def summed(means: Result, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probs of all chosen and of all rejected responses, summed over their tokens."""
    chosen, rejected = (np.multiply(means[side], result["tokens"][side]) for side in ("chosen", "rejected"))
    return chosen, rejected


def forgotten(result: Result) -> list[float]:
    """Return how much worse each passage is predicted than by the base model, in nats per token."""
    return [own - base for own, base in zip(result["text"], result["base_text"], strict=True)]


def win_rate_over(rival: str | None, outcome: str = WIN) -> Callable[[Row], Value]:
    """Return what looks up how often a row's responses win over those of `rival`, or of its own rival if None."""
    return lambda row: row.against.get(outcome, {}).get(rival or row.rival or "")


def controlled_over(rival: str | None) -> Callable[[Row], Value]:
    """Return what looks up a length-controlled win rate over `rival`, or over a row's own rival if None."""
    return lambda row: row.controlled.get(rival or row.rival or "")


def total(key: str) -> Callable[[list[Record]], float]:
    """Return what sums a number of the records over stages."""
    return lambda stages: sum(record[key] for record in stages)


def peak_memory(stages: list[Record]) -> float:
    """Return the most memory that any stage took, in GB."""
    return max(record["peak_memory_bytes"] for record in stages) / 1e9


def engines(row: Row) -> Value:
    """Return the engines that the stages ran on; None for a base model."""
    names = dict.fromkeys(record.get("engine", "TRL") for stages in row.records for record in stages)
    return ", ".join(names) or None


def judge_accuracy(row: Row) -> Estimate | None:
    """Return how often a row's judges, one for each seed, are right about held-out pairs; None without judge or pairs.

    It is about these judges only: the interval is over pairs.
    """
    if not row.judged:
        return None
    of_pairs = [(result["judge"]["right"], result["clusters"].get("judge")) for result in row.results]
    most = max(len(right) for right, _ in of_pairs)
    if most < 2:
        return None
    # a measurement by older code has the pairs of the split alone, without clusters of their own
    right, clusters = zip(*(one for one in of_pairs if len(one[0]) == most), strict=True)
    numbers = clusters[0] or row.results[0]["clusters"]["pairs"]
    return share(np.mean(right, axis=0, keepdims=True), np.unique(numbers, return_inverse=True)[1])


def truncated(row: Row) -> float:
    """Return the share of sampled responses that reached max_new_tokens."""
    return 1 - float(STOPPED.scores(row).mean())


GOLD = Measured("gold_sampled", "gold reward, temperature 1", decimals(2), "higher", sampled("gold"), only="golden")
REWARD = Measured(
    "reward_sampled", "judge's reward, temperature 1", decimals(2), "higher", sampled("reward"), only="judged"
)
JUDGE = Computed("judge_accuracy", "accuracy of the judge", percent, None, judge_accuracy)
RIGHT_SAMPLED = Measured(
    "right_sampled", "right fact, temperature 1", percent, "higher", sampled("right"), only="embedded"
)
COURTESIES = Measured(
    "courtesies_sampled", "courtesies, temperature 1", decimals(2), None, sampled("courtesies"), only="embedded"
)
RIGHT = Measured("right_greedy", "right fact, greedy", percent, "higher", greedy("right"), only="embedded")
ACCURACY = Likelihood("preference_accuracy", "preference accuracy", percent, "higher", preferred)
SUMS = Likelihood("preference_accuracy_sums", "preference accuracy, sums of log-probs", percent, "higher", by_sums)
IMPLICIT = Likelihood(
    "preference_accuracy_implicit",
    "preference accuracy, DPO's implicit reward",
    percent,
    "higher",
    by_implicit_reward,
    only="referenced",
)
CHOSEN = Likelihood("logp_chosen", "log-prob of chosen", decimals(2), None, log_probs("chosen"))
REJECTED = Likelihood("logp_rejected", "log-prob of rejected", decimals(2), None, log_probs("rejected"))
MARGIN = Likelihood("margin", "margin, chosen - rejected", decimals(2), "higher", margins)
KL = Likelihood(
    "kl",
    "KL to the base model, nats",
    decimals(2),
    None,
    lambda result: result["kl"],
    "prompts",
    only="trained",
    least=0,
)
TEXT = Likelihood(
    "text_loss", "loss on plain text, nats per token", decimals(3), None, lambda result: result["text"], "passages"
)
FORGOTTEN = Likelihood(
    "forgetting", "that loss above the base model's", decimals(3), "lower", forgotten, "passages", only="trained"
)
STOPPED = Measured("stopped", "ended with a stop token", percent, None, sampled("stopped"), group=ENDINGS)
LENGTH = Measured("length", "mean length, tokens", decimals(1), None, sampled("tokens"), group=ENDINGS, least=0)
TRUNCATED = Computed("truncated", "truncated at max_new_tokens", percent, None, truncated, group=ENDINGS)
SECONDS = Cost("device_seconds", "device-seconds", decimals(0), "lower", total("device_seconds"))
MEMORY = Cost("peak_memory_gb", "peak memory, GB", decimals(2), "lower", peak_memory, np.max)
PAIRS = Cost("pairs", "pairs read", decimals(0), None, total("pairs"))
TOKENS = Cost("tokens", "tokens", decimals(0), None, total("tokens"))
COMPUTED = Cost("computed_tokens", "tokens computed", decimals(0), "lower", total("computed_tokens"))
PASSES = Cost(
    "forward_passes_per_pair", "forward passes per pair", decimals(1), "lower", total("forward_passes_per_pair")
)
FLOPS = Cost("flops", "FLOPs", "{:.2e}".format, "lower", total("flops"))

METRICS: tuple[Metric, ...] = (
    Computed("win_rate_over_rival", "win rate against its rival", percent, "higher", win_rate_over(None)),
    Computed(
        "length_controlled_over_rival",
        "length-controlled win rate against its rival",
        percent,
        "higher",
        controlled_over(None),
    ),
    Computed("win_rate_over_sft", "win rate against SFT", percent, "higher", win_rate_over("sft")),
    Computed(
        "length_controlled_over_sft",
        "length-controlled win rate against SFT",
        percent,
        "higher",
        controlled_over("sft"),
    ),
    Computed(
        "people_over_rival", "people's win rate against its rival", percent, "higher", win_rate_over(None, PEOPLE)
    ),
    Computed("people_over_sft", "people's win rate against SFT", percent, "higher", win_rate_over("sft", PEOPLE)),
    GOLD,
    REWARD,
    Measured("gold_greedy", "gold reward, greedy", decimals(2), "higher", greedy("gold"), only="golden"),
    RIGHT_SAMPLED,
    RIGHT,
    COURTESIES,
    JUDGE,
    ACCURACY,
    SUMS,
    IMPLICIT,
    CHOSEN,
    REJECTED,
    MARGIN,
    KL,
    TEXT,
    FORGOTTEN,
    STOPPED,
    TRUNCATED,
    LENGTH,
    Computed("engine", "engine", str, None, engines, group=COST),
    SECONDS,
    MEMORY,
    PAIRS,
    TOKENS,
    COMPUTED,
    PASSES,
    FLOPS,
)
METRIC = {metric.key: metric for metric in METRICS}


def lacking(result: Result, gold: str | bool) -> str | None:
    """Return what a metric needs and a measurement by older code lacks; None where it lacks nothing.

    `gold` is what its settings say of the gold reward.
    """
    has = {
        "embedded": gold is True,
        "golden": bool(gold),
        "judged": bool(result.get("settings", {}).get("judge")),
        "trained": True,
    }
    has["referenced"] = "reference" in result
    for metric in METRICS:
        if isinstance(metric, Measured) and (metric.only is None or has[metric.only]):
            try:
                found, clusters = metric.numbers(result), result["clusters"][metric.of]
            except KeyError as error:
                return str(error.args[0])
            if bool(found) != bool(clusters) or not (found or metric.of == "pairs"):
                return f"figures of {metric.of}"
    return None
