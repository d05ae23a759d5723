"""The rows of the table, in order: what each is called, how its number is printed, and what it is computed from.

A new row is one more metric in `METRICS` and a line in docs/reading.md. Where it needs what is not measured yet,
`eval.results.measure` measures that too, and models whose measurement lacks it are measured again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.results.result import Result
from eval.results.row import Record, Row, Value
from eval.results.statistics import Estimate, estimate, share

WIN = "win_rate"  # the outcome by which pipelines are compared first
PEOPLE = "people"  # the outcome that people vote on
ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str  # in table.json and results.json; it never changes
    label: str  # in tables and figures; it may change
    text: Callable[[float], str]  # a number with its digits and unit
    better: Literal["higher", "lower"] | None  # None: neither is

    @property
    def title(self) -> str:
        """The head of the row, with an arrow to what is better."""
        return self.label + ARROWS[self.better]

    def value(self, row: Row) -> Value:
        """Return what the table shows of a pipeline."""
        raise NotImplementedError


@dataclass(frozen=True)
class Measured(Metric):
    """A mean over held-out prompts or pairs, and over seeds; one that is shown in percent is of numbers from 0 to 1."""

    numbers: Callable[[Result], Any]  # of one model: one per prompt (and sample) or pair; KeyError: not measured
    of: Literal["prompts", "pairs"] = "prompts"
    only: Literal["embedded", "judged"] | None = None  # the rows of which it is: see `Row`
    interval: bool = True

    def scores(self, row: Row) -> np.ndarray:
        """Return the numbers of every seed, shape (seeds, prompts or pairs) or (seeds, prompts, samples)."""
        return np.array([self.numbers(result) for result in row.results], dtype=float)

    def clusters(self, row: Row) -> np.ndarray:
        """Return the number of each prompt's or pair's cluster, without gaps."""
        return np.unique(row.results[0]["clusters"][self.of], return_inverse=True)[1]

    def of_seeds(self, row: Row, seeds: list[int]) -> np.ndarray:
        """Return the numbers of some of a row's seeds, in their order."""
        return self.scores(row)[[row.seeds.index(seed) for seed in seeds]]

    def value(self, row: Row) -> Value:
        """Return the mean, with its interval where it has one."""
        if self.only and not getattr(row, self.only):
            return None
        scores = self.scores(row)
        if not self.interval:
            return float(scores.mean())
        return (share if self.text is percent else estimate)(scores, self.clusters(row))


@dataclass(frozen=True)
class Cost(Metric):
    """What training cost: of the stages of one seed, then over the seeds."""

    of_stages: Callable[[list[Record]], float]
    over_seeds: Callable[[np.ndarray], float] = np.mean

    def spent(self, row: Row) -> np.ndarray:
        """Return the cost with each seed, shape (seeds,); nothing for a base model."""
        return np.array([self.of_stages(stages) for stages in row.records], dtype=float)

    def value(self, row: Row) -> Value:
        """Return the mean over seeds, or the largest; None for a base model."""
        return float(self.over_seeds(self.spent(row))) if row.records else None


@dataclass(frozen=True)
class Computed(Metric):
    """What is neither a mean of measurements nor a cost."""

    compute: Callable[[Row], Value]

    def value(self, row: Row) -> Value:
        """Return it."""
        return self.compute(row)


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}%"


def decimals(count: int) -> Callable[[float], str]:
    """Return what prints a number with so many decimals, and its thousands apart."""
    return lambda value: f"{value:,.{count}f}"


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


def win_rate_over(rival: str | None, outcome: str = WIN) -> Callable[[Row], Value]:
    """Return what looks up how often a row's responses win over those of `rival`, or of its own rival if None."""
    return lambda row: row.against.get(outcome, {}).get(rival or row.rival or "")


def total(key: str) -> Callable[[list[Record]], float]:
    """Return what sums a number of the records over stages."""
    return lambda stages: sum(record[key] for record in stages)


def peak_memory(stages: list[Record]) -> float:
    """Return the most memory that any stage held, in GB."""
    return max(record["peak_memory_bytes"] for record in stages) / 1e9


def engines(row: Row) -> Value:
    """Return the engines that the stages ran on; None for a base model."""
    names = dict.fromkeys(record.get("engine", "TRL") for stages in row.records for record in stages)
    return ", ".join(names) or None


def judge_accuracy(row: Row) -> Estimate | None:
    """Return how often a row's judges, one for each seed, are right about held-out pairs; None without a judge.

    It is about these very judges: the interval is over pairs.
    """
    if not row.judged:
        return None
    right = np.array([result["judge"]["right"] for result in row.results])
    return share(right.mean(axis=0, keepdims=True), ACCURACY.clusters(row))


def truncated(row: Row) -> float:
    """Return the share of sampled responses that reached max_new_tokens."""
    return 1 - float(STOPPED.scores(row).mean())


GOLD = Measured("gold_sampled", "gold reward, temperature 1", decimals(2), "higher", sampled("gold"), only="embedded")
REWARD = Measured(
    "reward_sampled", "judge's reward, temperature 1", decimals(2), "higher", sampled("reward"), only="judged"
)
JUDGE = Computed("judge_accuracy", "accuracy of the judge", percent, None, judge_accuracy)
RIGHT = Measured("right_greedy", "right fact, greedy", percent, "higher", greedy("right"), only="embedded")
ACCURACY = Measured("preference_accuracy", "preference accuracy", percent, "higher", preferred, "pairs")
CHOSEN = Measured("logp_chosen", "log-prob of chosen", decimals(2), None, log_probs("chosen"), "pairs")
REJECTED = Measured("logp_rejected", "log-prob of rejected", decimals(2), None, log_probs("rejected"), "pairs")
MARGIN = Measured("margin", "margin, chosen - rejected", decimals(2), "higher", margins, "pairs")
STOPPED = Measured("stopped", "ended with a stop token", percent, None, sampled("stopped"), interval=False)
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
    GOLD,
    REWARD,
    Computed("win_rate_over_sft", "win rate against SFT", percent, "higher", win_rate_over("sft")),
    Computed("win_rate_over_rival", "win rate against its rival", percent, "higher", win_rate_over(None)),
    Computed("people_over_sft", "people's win rate against SFT", percent, "higher", win_rate_over("sft", PEOPLE)),
    Computed(
        "people_over_rival", "people's win rate against its rival", percent, "higher", win_rate_over(None, PEOPLE)
    ),
    Measured("gold_greedy", "gold reward, greedy", decimals(2), "higher", greedy("gold"), only="embedded"),
    RIGHT,
    JUDGE,
    ACCURACY,
    CHOSEN,
    REJECTED,
    MARGIN,
    STOPPED,
    Computed("truncated", "truncated at max_new_tokens", percent, None, truncated),
    Measured("length", "mean length, tokens", decimals(1), None, sampled("tokens"), interval=False),
    Computed("engine", "engine", str, None, engines),
    SECONDS,
    MEMORY,
    PAIRS,
    TOKENS,
    COMPUTED,
    PASSES,
    FLOPS,
)
METRIC = {metric.key: metric for metric in METRICS}
# What a terminal shows that has no room for all, and what the README shows of docs/comparison.md.
SHORT = ("gold_sampled", "win_rate_over_sft", "preference_accuracy", "flops")
README = (
    *(
        "win_rate_over_sft",
        "win_rate_over_rival",
        "right_greedy",
        "preference_accuracy",
        "logp_chosen",
        "logp_rejected",
    ),
    *("margin", "device_seconds", "peak_memory_gb", "tokens", "forward_passes_per_pair", "flops"),
)


def lacking(result: Result, embedded: bool) -> str | None:
    """Return what a metric needs and a measurement by older code lacks; None where it lacks nothing."""
    has = {"embedded": embedded, "judged": bool(result.get("settings", {}).get("judge"))}
    for metric in METRICS:
        if isinstance(metric, Measured) and (metric.only is None or has[metric.only]):
            try:
                assert metric.numbers(result) and result["clusters"][metric.of]
            except KeyError as error:
                return str(error.args[0])
    return None
