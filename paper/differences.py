"""ORPO minus DPO: every published pair of figures and our own results, with a 95% interval where enough is printed.

Which interval, by what was printed:

- standard deviations over seeds: Welch's t;
- standard errors over prompts: normal, as if the two models' scores were independent. On the same prompts they are
  mostly not, so the interval is rather too wide;
- two intervals: that of the difference, recovered from them (Zou & Donner 2008), again as if independent;
- a win rate of ORPO over DPO with the standard deviation of rounds of sampling: Student's t.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, sqrt

from scipy.special import ndtri, stdtrit

from eval.results.variance import ERROR
from paper.published import Figure, Protocol, Source, published, sources
from recipes.config import read_json
from recipes.system.paths import ROOT

ORPO = (
    "ORPO",
    "SFT+ORPO",
    "SFT+odds ratio",
)  # what is called ORPO somewhere; the last is its loss without the NLL term
DPO = ("SFT+DPO", "DPO", "DPO-p")
SEEDS_AND_PROMPTS = "seeds and prompts"


@dataclass(frozen=True)
class Kept:
    """A results file of docs/: what it shows, and of which model, data and protocol."""

    source: Source
    model: str = "pocket"
    data: str = "pocket"
    protocol: str = "embedded world"


OURS = {  # by the names of their files
    "comparison": Kept(
        Source(
            "ours",
            "SFT → DPO and ORPO in the embedded world",
            "comparison.md",
            "At 0.9 million parameters, both tuned alike, ORPO in one stage surely loses to SFT → DPO.",
            "The model is tiny and its world invented, and on another machine the same comparison was not sure.",
        )
    ),
    "all-methods": Kept(
        Source(
            "ours, all methods",
            "All methods in the embedded world",
            "all-methods.md",
            "ORPO is behind SFT → DPO, and nearer to it after SFT.",
            "After Holm over the eight comparisons of that table, neither difference is sure.",
        )
    ),
    "real-verifiable": Kept(
        Source(
            "ours, a real model",
            "SmolLM2-135M on prompts whose responses a program checks",
            "real.md",
            "Neither ORPO in one stage nor ORPO after SFT can be told apart from SFT → DPO.",
            "So few pairs, prompts and seeds that only a large difference could have been seen.",
        ),
        "SmolLM2-135M-Instruct (4-bit)",
        "own responses to verifiable prompts",
        "verifiable",
    ),
    "real-harmless": Kept(
        Source(
            "ours, harmless pairs",
            "SmolLM2-135M on HH-RLHF's harmless pairs",
            "real.md",
            "By the first seed's reward model ORPO has fewer wins than SFT → DPO; by the second's, as many.",
            "The judges are too weak for a verdict, and there are two seeds.",
        ),
        "SmolLM2-135M-Instruct (4-bit)",
        "HH-RLHF harmless, 119 pairs",
        "harmless",
    ),
}


@dataclass(frozen=True)
class Interval:
    """A 95% interval of a difference, and what it is over: prompts, rounds or seeds, or seeds and prompts."""

    low: float
    high: float
    over: str


@dataclass(frozen=True)
class Difference:
    """ORPO's figure and DPO's of the same model, metric and protocol."""

    orpo: Figure
    dpo: Figure | None = None  # None: ORPO's figure is its win rate over DPO

    @property
    def shares(self) -> tuple[float, float]:
        """ORPO's value and DPO's; of a win rate of one over the other, their shares of wins, a tie counting half."""
        return self.orpo.value, self.dpo.value if self.dpo else 100 - self.orpo.value

    @property
    def value(self) -> float:
        """ORPO minus DPO in the metric's unit, points where it is per cent."""
        return self.shares[0] - self.shares[1]

    @property
    def interval(self) -> Interval | None:
        """The 95% interval of the difference; None if too little is printed."""
        return of_two(self.orpo, self.dpo) if self.dpo else of_win_rate(self.orpo)

    @property
    def figures(self) -> list[Figure]:
        """The printed figures."""
        return [self.orpo, self.dpo] if self.dpo else [self.orpo]

    @property
    def rival(self) -> str:
        """DPO's stages."""
        return self.dpo.method if self.dpo else str(self.orpo.against)

    @property
    def across(self) -> bool:
        """Whether the two figures are of different tables of their source."""
        return bool(self.dpo) and self.dpo.table != self.orpo.table


def every_source() -> dict[str, Source]:
    """Return our files and the published sources by their names."""
    return {name: kept.source for name, kept in OURS.items()} | sources()


def differences() -> list[Difference]:
    """Return ours, and all published ones in the order of published.yaml."""
    return [*ours(), *published_differences()]


def published_differences() -> Iterator[Difference]:
    """Yield a difference for every win rate of ORPO over DPO, and for every pair of comparable figures."""
    for orpo in (figure for figure in published() if figure.method in ORPO and figure.size):
        if orpo.against in DPO:
            yield Difference(orpo)
        elif orpo.against is None:
            yield from (Difference(orpo, dpo) for dpo in published() if dpo.method in DPO and comparable(orpo, dpo))


def comparable(orpo: Figure, dpo: Figure) -> bool:
    """Whether two figures have source, model, metric and protocol in common, and their table or their data."""
    same = all(getattr(orpo, name) == getattr(dpo, name) for name in ("source", "model", "metric", "protocol"))
    return same and (orpo.table == dpo.table or orpo.data == dpo.data)


def ours() -> list[Difference]:
    """Return what our results files hold: win rates over SFT → DPO, by what decides them."""
    found = []
    for name in OURS:
        for row in read_json(ROOT / "docs" / f"{name}.json")["rows"]:
            if row["stages"][-1:] == ["orpo"]:
                found.append(Difference(our_figure(name, row)))
    return found


def our_figure(name: str, row: dict) -> Figure:
    """Return a row of docs/<name>.json as a figure: its win rate over SFT → DPO, with its interval."""
    rate, kept = row["against"]["win_rate"]["dpo"]["rate"], OURS[name]
    judge = row["scored_by"].removeprefix("by ")
    over = SEEDS_AND_PROMPTS if len(row["seeds"]) > 1 else "prompts"
    return Figure(
        source=name,
        url=kept.source.url,
        table="win rates",
        model=kept.model,
        method="+".join(stage.upper() for stage in row["stages"]),
        data=kept.data,
        metric="win rate",
        against="SFT+DPO",
        value=100 * rate["mean"],
        interval=(100 * rate["low"], 100 * rate["high"]),
        seeds=len(row["seeds"]),
        protocol=Protocol(kept.protocol, judge, f"{row['prompts']} held out", "temperature 1", over),
    )


def of_two(orpo: Figure, dpo: Figure) -> Interval | None:
    """Return the interval of the difference of two figures: see the module's text."""
    value = orpo.value - dpo.value
    if orpo.interval and dpo.interval:
        (low, high), (other_low, other_high) = orpo.interval, dpo.interval
        below = sqrt((orpo.value - low) ** 2 + (other_high - dpo.value) ** 2)
        above = sqrt((high - orpo.value) ** 2 + (dpo.value - other_low) ** 2)
        return Interval(value - below, value + above, "prompts")
    if not orpo.error or not dpo.error:
        return None
    if orpo.protocol.error == "seeds":
        half = welch(orpo, dpo)
    elif orpo.protocol.error == "prompts":
        half = quantile(inf) * sqrt(orpo.error**2 + dpo.error**2)
    else:
        return None
    return Interval(value - half, value + half, orpo.protocol.error)


def welch(*figures: Figure) -> float:
    """Return half of Welch's interval for two figures with standard deviations over seeds (Welch 1947)."""
    errors = [(figure.error or 0) ** 2 / ((figure.seeds or 0) - 1 + figure.ddof) for figure in figures]  # squared
    freedom = sum(errors) ** 2 / sum(e**2 / ((f.seeds or 0) - 1) for e, f in zip(errors, figures, strict=True))
    return quantile(freedom) * sqrt(sum(errors))


def of_win_rate(orpo: Figure) -> Interval | None:
    """Return the interval of the difference of two shares of wins: twice that of the win rate."""
    if orpo.interval:
        low, high = orpo.interval
        return Interval(2 * low - 100, 2 * high - 100, orpo.protocol.error or "prompts")
    if not orpo.error or not orpo.protocol.rounds:
        return None
    value, rounds = 2 * orpo.value - 100, orpo.protocol.rounds
    half = 2 * quantile(rounds - 1) * orpo.error / sqrt(rounds)
    return Interval(value - half, value + half, "rounds")


def quantile(freedom: float) -> float:
    """Return Student's t of a two-sided 95% interval; with infinite freedom, that of the normal distribution."""
    return -float(ndtri(ERROR / 2) if freedom == inf else stdtrit(freedom, ERROR / 2))
