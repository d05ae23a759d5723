"""What a comparison answers, in words: which pipeline gives better responses, at what cost, and what it lost by it.

A function of rows as table.json has them, so that the page, the table, the terminal and the README say the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from eval.results.deciding import STRONG
from eval.results.metric import Measured, percent
from eval.results.metrics import FLOPS, GOLD, JUDGE, METRIC, PEOPLE, RIGHT_SAMPLED, SECONDS, TRUNCATED, WIN
from eval.results.rows import place
from eval.results.setting import Setting
from eval.results.statistics import BETTER, NONE, SAME, UNSURE, WORSE

Row = dict[str, Any]  # as `eval.results.rows.as_json` makes it
MOST = 4  # settings that are answered one by one
LOSSES = 3  # said in the sentence about what a pipeline lost
SAID = {
    BETTER: ("gives better responses than", ", sure"),
    WORSE: ("gives worse responses than", ", sure"),
    SAME: ("is practically the same as", ", surely between {low} and {high}"),
    UNSURE: ("is not distinguishable from", ""),
    NONE: ("has no verdict against", ""),
}
# What a pipeline does that is worse in a metric; of a metric without words here, its label says it.
LOST = {
    "right_greedy": "states the right fact less often when decoding greedily",
    "right_sampled": "states the right fact less often",
    "forgetting": "ends with a higher loss on plain text, in nats per token beside the base model's",
}
MORE = "use more prompts (eval_prompts=) or seeds (seed=0,1,2)"
BY_HAND = "compare the responses yourself (`make judge`)"


def headline(rows: list[Row]) -> list[str]:
    """Return the answer, a sentence for each setting, and after that of a single one what else to know or to do."""
    trained = [row for row in rows if row["stages"]]
    settings = [list(group) for _, group in groupby(trained, lambda row: row["setting"])]
    if len(settings) > MOST:
        return [f"No single answer: {len(settings)} settings were compared, and each has its verdict in the table."]
    if len(settings) == 1:
        return Contest.of(settings[0]).answer()
    if settings and all(len(group) == 1 for group in settings):
        names = listed(list(dict.fromkeys(row["label"] for row in trained)))
        return [f"A sweep of {names} over {len(settings)} settings: no pipeline to compare with in any of them."]
    return [f"{Setting(group[0]['setting'])}: {Contest.of(group).answer()[0]}" for group in settings]


@dataclass(frozen=True)
class Contest:
    """One setting's pipelines, in the table's order, and the outcome that decides between them."""

    rows: list[Row]
    outcome: str

    @classmethod
    def of(cls, rows: list[Row]) -> "Contest":
        """Let the responses' judge decide; people, where there is none or it is too weak."""
        given = {name for row in rows for name in (WIN, PEOPLE) for found in verdicts(row, name) if found != NONE}
        outcome = PEOPLE if PEOPLE in given and WIN not in given else WIN
        return cls(sorted(rows, key=lambda row: place(row["pipeline"], row["stages"])), outcome)

    @property
    def candidates(self) -> list[Row]:
        """The pipelines other than SFT: the question is which of them to train."""
        return [row for row in self.rows if row["pipeline"] != "sft"]

    @property
    def best(self) -> Row:
        """The candidate that wins most against the other candidates."""
        return max(self.candidates, key=lambda row: sum(self.rate(row, other) for other in self.candidates))

    def against(self, row: Row, other: Row) -> dict[str, Any] | None:
        """Return one pipeline's comparison with another."""
        return row["against"].get(self.outcome, {}).get(other["pipeline"])

    def rate(self, row: Row, other: Row) -> float:
        """Return how often one wins against the other; one half if they were not compared."""
        found = self.against(row, other)
        return found["rate"]["mean"] if found else 0.5

    def verdict(self, row: Row, other: Row) -> str | None:
        """Return the verdict on one against another; None if they were not compared."""
        found = self.against(row, other)
        return found["verdict"] if found else None

    def answer(self) -> list[str]:
        """Return the answer, then what else to know or to do."""
        names = " and ".join(row["label"] for row in self.candidates)
        if len(self.rows) < 2 or not self.candidates:
            return [f"Nothing to compare: only {names or 'SFT'} was trained."]
        given = {found for row in self.rows for found in verdicts(row, self.outcome)}
        if not given or not self.opponents():
            advice = f"Name a judge (judge=trained or judge=reward:<model>), or {BY_HAND}."
            return [f"No verdict on {names}: nobody has compared their responses.", advice]
        if given == {NONE}:
            return [f"No verdict on {names}: the judge is too weak.", too_weak(self.best)]
        return [self.sentence(), *self.further()]

    def opponents(self) -> list[Row]:
        """Return the pipelines that the answer compares the best with: other candidates, and SFT unless it loses."""
        compared = [row for row in self.rows if row is not self.best and self.against(self.best, row)]
        asked = [row for row in compared if self.verdict(self.best, row) != NONE]  # with compare_with= not all are
        others = [row for row in asked or compared if row["pipeline"] != "sft"]
        sft = [row for row in asked or compared if row["pipeline"] == "sft"]
        beaten = others and all(self.verdict(self.best, row) == BETTER for row in sft)
        return [*others, *([] if beaten else sft)]

    def sentence(self) -> str:
        """Return the answer in a sentence: verdicts, costs, and what was lost."""
        best, opponents = self.best, self.opponents()
        said = [self.clause(verdict, list(rows)) for verdict, rows in groupby(opponents, self.verdict_of_best)]
        losses = [f"it {loss}" for loss in lost(best, self.rows)]
        unbeaten = [row for row in opponents if row["pipeline"] != "sft" and self.verdict(best, row) != BETTER]
        losses += [f"{row['label']} {loss}" for row in unbeaten for loss in lost(row, [best])]
        if len(losses) > LOSSES:
            losses[LOSSES - 1 :] = [f"{len(losses) - LOSSES + 1} other rows are surely worse (▼ in the table)"]
        but = f"; but {listed(losses)}" if losses else ""
        return f"{self.where}, {best['label']} {listed(said)}{but}."

    @property
    def where(self) -> str:
        """Whose prompts they are, or who decided."""
        if self.outcome == PEOPLE:
            return "By people's votes"
        return "In the embedded world" if embedded(self.rows[0]) else "On these prompts"

    def verdict_of_best(self, other: Row) -> str:
        """Return the verdict on the best against an opponent."""
        return self.verdict(self.best, other) or NONE

    def clause(self, verdict: str, others: list[Row]) -> str:
        """Say of opponents with one verdict what it is, and what the best costs beside each."""
        phrase, doubt = SAID[verdict]
        parts = []
        for other in others:
            found = self.against(self.best, other) or {}
            margin = round(100 * found.get("margin", 0))
            sure = doubt.format(low=50 - margin, high=50 + margin)
            parts.append(f"{other['label']} ({odds(found['rate']['mean'])}{sure}){cost(self.best, other)}")
        return f"{phrase} {listed(parts)}"

    def further(self) -> Iterator[str]:
        """Say how the candidates do against SFT, and what to do where nothing is sure."""
        best, opponents = self.best, self.opponents()
        over_sft = [(row, self.against(row, sft)) for sft in self.rows if sft["pipeline"] == "sft" for row in self.rows]
        told = [f"{row['label']} {odds(found['rate']['mean'])}{said(found)}" for row, found in over_sft if found]
        if len(self.candidates) > 1 and told:
            yield f"Against SFT alone: {', '.join(told)}."
        unsure = [found for row in opponents if (found := self.against(best, row)) and found["verdict"] == UNSURE]
        if unsure:
            yield findable([found.get("detectable") for found in unsure])
        for row in self.rows:
            if (cut := row["values"].get(TRUNCATED.key) or 0) > 0.5:
                yield (
                    f"{percent(cut)} of {row['label']}'s responses were truncated at dataset.max_new_tokens: raise it, "
                    "or see whether the model has learnt its stop token."
                )
        for row in opponents:
            if self.verdict(best, row) == SAME and (cheaper := cheapest(best, row)):
                yield f"Of {best['label']} and {row['label']} take the cheaper: {cheaper}."


def said(found: dict[str, Any]) -> str:
    """Return a comparison's verdict in brackets; nothing where none was asked for."""
    return "" if found["verdict"] == NONE else f" ({found['verdict']})"


def verdicts(row: Row, outcome: str) -> list[str]:
    """Return a row's verdicts by an outcome."""
    return [found["verdict"] for found in row["against"].get(outcome, {}).values()]


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


def cost(row: Row, other: Row) -> str:
    """Say what a pipeline costs beside another; nothing where neither FLOPs nor seconds are known."""
    found = relative(row, other)
    if found is None:
        return ""
    ratio, unit = found
    return f" for as many {unit}" if round(ratio, 2) == 1 else f" for {ratio:.2f} times its {unit}"


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


def findable(sizes: list[float | None]) -> str:
    """Say which win rate could have been found, and what to do to find a smaller one."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        which = "For some of these pipelines no" if known else "No"
        return f"{which} win rate could have been found with so few prompts or seeds: {MORE}."
    found = f"A true win rate of {percent(0.5 + max(known))} would have been found with probability 80%"
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


def embedded(row: Row) -> bool:
    """Whether a row's responses are about the embedded world."""
    return all(row["values"].get(metric.key) is not None for metric in (GOLD, RIGHT_SAMPLED))


def listed(parts: list[str]) -> str:
    """Return parts as an enumeration."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
