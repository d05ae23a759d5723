"""Across models: does a verdict hold with another base model, and how far apart are the win rates?

Of a session that trained the same pipelines from several base models (`model=a,b`). A pair of pipelines has a verdict
with each model, as the table gives it; whether those agree is one question. Whether the win rate itself differs is
another: two models may each be sure and far apart, or one sure and the other not, with win rates that are nearly the
same. It is answered for all pairs of models by a paired difference over the held-out prompts that both answered and the
seeds that both trained, tested as every difference is (`eval.results.differences`): prompts form clusters, seeds vary.
p is adjusted over all differences of a section (Holm 1979).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from eval.results.carried import without_gaps
from eval.results.deciding import outcomes, weak
from eval.results.differences import Difference, differ, holm
from eval.results.effects import wins
from eval.results.metrics import WIN
from eval.results.row import Row
from eval.results.rows import NAMES, arranged
from eval.results.setting import Setting
from eval.results.statistics import UNSURE, Comparison

SAME, DIFFERS, UNKNOWN = "the same", "differs", "cannot be told"
Models = dict[str, list[Row]]  # model -> its pipelines


@dataclass(frozen=True)
class Between:
    """How much a win rate differs between two models: the first one's minus the second one's."""

    prompts: int  # that both models answered
    difference: Difference


@dataclass(frozen=True)
class Rivals:
    """Two pipelines against each other with every model, as the one that wins more often over all models sees it."""

    pipelines: tuple[str, str]
    found: dict[str, Comparison]  # model -> the table's comparison
    between: dict[tuple[str, str], Between]  # of two models, where they have prompts and seeds in common

    @property
    def names(self) -> tuple[str, str]:
        """The pipelines' names in tables."""
        one, other = (NAMES.get(name, name) for name in self.pipelines)
        return one, other

    def agreement(self, *models: str) -> str:
        """Whether the verdict is the same with these models, or with all: two unsure ones agree on nothing."""
        verdicts = {self.found[model].verdict for model in models or self.found}
        if len(verdicts - {UNSURE}) > 1:
            return DIFFERS
        return UNKNOWN if UNSURE in verdicts else SAME


@dataclass(frozen=True)
class Section:
    """The pairs of pipelines that were compared with each of several models, all other options being equal."""

    setting: Setting  # the other options that were swept
    models: Models
    weak: list[str]  # models that are left out: their judge is too weak for a verdict
    rivals: list[Rivals]


def across(rows: list[Row]) -> list[Section]:
    """Return what several models say of the same pipelines; nothing where one model was trained."""
    return [section(setting, models) for setting, models in by_setting(rows) if len(models) > 1]


def by_setting(rows: list[Row]) -> Iterator[tuple[Setting, Models]]:
    """Yield each setting apart from its model, with the models that were trained and compared under it."""
    found: dict[str, tuple[Setting, Models]] = {}
    for row in rows:
        if (model := row.setting.model) and row.against.get(WIN):
            others = row.setting.without(Setting(model=model))
            _, models = found.setdefault(str(others), (others, {}))
            models.setdefault(model, []).append(row)
    yield from found.values()


def section(setting: Setting, models: Models) -> Section:
    """Compare what several models say of each pair of pipelines."""
    feeble = [model for model, rows in models.items() if weak(rows[0])]
    strong = {model: rows for model, rows in models.items() if model not in feeble}
    found = list(rivals_of(strong)) if len(strong) > 1 else []
    adjusted = iter(holm([one.difference for pair in found for one in pair.between.values()]))
    for pair in found:
        pair.between.update((names, replace(one, difference=next(adjusted))) for names, one in pair.between.items())
    return Section(setting, models, feeble, found)


def rivals_of(models: Models) -> Iterator[Rivals]:
    """Yield every pair of pipelines that has a verdict with each model; p is not adjusted yet."""
    named = {model: {row.pipeline: row for row in rows} for model, rows in models.items()}
    first = arranged(next(iter(models.values())))
    for one, other in combinations([row.pipeline for row in first], 2):
        found = {model: rows[one].against[WIN].get(other) for model, rows in named.items() if one in rows}
        asked = {model: result for model, result in found.items() if result is not None and result.asked}
        if len(asked) == len(models):
            ahead = np.mean([result.rate.mean for result in asked.values()]) >= 0.5
            ours, theirs = (one, other) if ahead else (other, one)
            pairs = {model: (rows[ours], rows[theirs]) for model, rows in named.items()}
            seen = {model: rows[0].against[WIN][theirs] for model, rows in pairs.items()}
            apart = {names: between(*(pairs[model] for model in names)) for names in combinations(pairs, 2)}
            yield Rivals((ours, theirs), seen, {names: one for names, one in apart.items() if one})


def between(first: tuple[Row, Row], second: tuple[Row, Row]) -> Between | None:
    """Return how much the win rate of one pipeline over another differs between two models; p is not adjusted yet.

    None where they have no seed or fewer than two prompts in common: those of another data set, for example.
    """
    seeds = [seed for seed in first[0].seeds if all(seed in row.seeds for row in (*first, *second))]
    places = answered_by_both(first[0], second[0])
    if not seeds or len(places) < 2:
        return None
    ours, theirs = (points(pair, seeds)[:, place] for pair, place in zip((first, second), places.T, strict=True))
    clusters = outcomes(first[0])[WIN].clusters(first[0])[places[:, 0]]
    return Between(len(places), differ(ours, theirs, without_gaps(clusters), "higher", shares=True))


def answered_by_both(one: Row, other: Row) -> np.ndarray:
    """Return the places of the prompts that two models answered, shape (prompts, 2); int64.

    Another tokenizer may make other prompts too long, so that they were dropped.
    """
    ours, theirs = (
        {answer["prompt"]: place for place, answer in enumerate(row.results[0]["sampled"])} for row in (one, other)
    )
    return np.array([(place, theirs[prompt]) for prompt, place in ours.items() if prompt in theirs]).reshape(-1, 2)


def points(pair: tuple[Row, Row], seeds: list[int]) -> np.ndarray:
    """Return the points of one pipeline's responses against another's, shape (seeds, prompts), by the model's judge."""
    one, other = (outcomes(row)[WIN].of_seeds(row, seeds) for row in pair)
    return wins(one, other)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the sections as plain values, under the keys of docs/results.schema.json."""
    return [
        {
            "setting": found.setting,
            "models": list(found.models),
            "weak": found.weak,
            "pairs": [pair_as_json(pair) for pair in found.rivals],
        }
        for found in across(rows)
    ]


def pair_as_json(pair: Rivals) -> dict[str, Any]:
    """Return what several models say of a pair of pipelines as plain values."""
    differences = [
        {"models": list(names), "prompts": one.prompts} | one.difference.as_json()
        for names, one in pair.between.items()
    ]
    return {
        "pipelines": list(pair.pipelines),
        "verdicts": {model: one.verdict for model, one in pair.found.items()},
        "agreement": pair.agreement(),
        "differences": differences,
    }
