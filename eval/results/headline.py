"""What a comparison answers, in words: which pipeline gives better responses, at what cost, and what it lost by it.

A function of rows as table.json has them, so that the page, the table, the terminal and the README say the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from eval.results.metric import percent
from eval.results.metrics import GOLD, PEOPLE, RIGHT_SAMPLED, TRUNCATED, WIN
from eval.results.phrases import BY_HAND, Row, but, cheapest, cost, costs, findable, listed, lost, odds, said, too_weak
from eval.results.rows import place
from eval.results.setting import Setting
from eval.results.statistics import BETTER, NONE, SAME, UNSURE, WORSE

MOST = 4  # settings that are answered one by one
SAID = {
    BETTER: ("gives better responses than", ", sure"),
    WORSE: ("gives worse responses than", ", sure"),
    SAME: ("is practically the same as", ", surely between {low} and {high}"),
    UNSURE: ("is not distinguishable from", ""),
    NONE: ("has no verdict against", ""),
}
MANY = 4  # pipelines: where none of so many is distinguishable from another, no best one is named


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
        names = listed([row["label"] for row in self.candidates])
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
        if self.undecided:
            losses = [f"{row['label']} {loss}" for row in self.candidates for loss in lost(row, self.rows)]
            return f"{self.where}, no pipeline is distinguishable from another{but(losses)}."
        best, opponents = self.best, self.opponents()
        said = [self.clause(verdict, list(rows)) for verdict, rows in groupby(opponents, self.verdict_of_best)]
        losses = [f"it {loss}" for loss in lost(best, self.rows)]
        unbeaten = [row for row in opponents if row["pipeline"] != "sft" and self.verdict(best, row) != BETTER]
        losses += [f"{row['label']} {loss}" for row in unbeaten for loss in lost(row, [best])]
        return f"{self.where}, {best['label']} {listed(said)}{but(losses)}."

    @property
    def undecided(self) -> bool:
        """Whether none of several pipelines is distinguishable from any other."""
        found = [self.verdict(row, other) for row in self.rows for other in self.rows if row is not other]
        return len(self.rows) >= MANY and {*found} == {UNSURE}

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
        if self.undecided and (paid := costs(self.rows)):
            yield paid
        if len(self.candidates) > 1 and told:
            yield f"Against SFT alone: {', '.join(told)}."
        unsure = [found for row in opponents if (found := self.against(best, row)) and found["verdict"] == UNSURE]
        if unsure:
            whose = "" if self.undecided else f" for {best['label']}"
            yield findable([found.get("detectable") for found in unsure], whose)
        for row in self.rows:
            if (cut := row["values"].get(TRUNCATED.key) or 0) > 0.5:
                yield (
                    f"{percent(cut)} of {row['label']}'s responses were truncated at dataset.max_new_tokens: raise it, "
                    "or check whether the model has learnt its stop token."
                )
        for row in opponents:
            if self.verdict(best, row) == SAME and (cheaper := cheapest(best, row)):
                yield f"Choose the cheaper of {best['label']} and {row['label']}: {cheaper}."


def verdicts(row: Row, outcome: str) -> list[str]:
    """Return a row's verdicts by an outcome."""
    return [found["verdict"] for found in row["against"].get(outcome, {}).values()]


def embedded(row: Row) -> bool:
    """Whether a row's responses are about the embedded world."""
    return all(row["values"].get(metric.key) is not None for metric in (GOLD, RIGHT_SAMPLED))
