"""The stage or the loss: the effects of training SFT first, and of the loss, from pipelines that cross the two.

A method that was trained both after SFT and without it fills two cells of the design; two such methods make it 2 x 2.
A cell's value is how often its responses beat those of SFT alone, in points of 100. *SFT first* is the mean over
methods of what it adds. *The loss* is the mean, after SFT and without, of what one method has over another. Their
*interaction* is how much more SFT first adds to one method than to the other. Each is a contrast on the same prompts
and seeds, tested as a difference is, p adjusted over all effects of a setting (Holm 1979).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from eval.results.deciding import outcomes, weak
from eval.results.differences import Difference, differ, holm
from eval.results.matrix import probability
from eval.results.metrics import WIN
from eval.results.row import Row
from eval.results.statistics import UNSURE, over_samples
from recipes.methods import METHODS

SFT = "sft"
Cell = tuple[str, bool]  # a method, and whether SFT was trained before it
APART = "DPO without SFT is kept near the base model, DPO after SFT near the SFT model: their reference models differ."
Points = dict[Cell, np.ndarray]  # of a win against SFT, shape (seeds, prompts)


@dataclass(frozen=True)
class Effect:
    """A contrast of a design's cells."""

    name: str
    gains: str  # what is said of a positive one
    loses: str  # and of a negative one
    difference: Difference

    @property
    def sentence(self) -> str:
        """What it says."""
        found = self.difference
        if not found.sure:
            return f"{self.name}: no sure effect ({found.points} points)"
        return f"{self.gains if found.mean.mean > 0 else self.loses} ({found.points} points, sure)"


def effects(rows: list[Row]) -> list[Effect]:
    """Return the effects of one setting's pipelines; none where they do not cross the stage with two losses."""
    sft = next((row for row in rows if row.stages == [SFT]), None)
    cells = {cell: row for row in rows if (cell := cell_of(row))}
    methods = [method for method, _ in cells if {(method, True), (method, False)} <= cells.keys()]
    methods = sorted(dict.fromkeys(methods), key=lambda method: method != "dpo")
    crossed = {cell: row for cell, row in cells.items() if cell[0] in methods}
    decides = outcomes(sft).get(WIN) if sft else None
    if sft is None or decides is None or len(methods) < 2 or weak(sft):
        return []
    seeds = [seed for seed in sft.seeds if all(seed in row.seeds for row in crossed.values())]
    if not seeds:
        return []
    theirs = decides.of_seeds(sft, seeds)
    points = {cell: wins(decides.of_seeds(row, seeds), theirs) for cell, row in crossed.items()}
    return of_points(points, methods, decides.clusters(sft))


def cell_of(row: Row) -> Cell | None:
    """Return the cell of the design that a pipeline fills, if any: one method, or SFT and a method."""
    *before, last = row.stages or [SFT]
    return (last, bool(before)) if last != SFT and before in ([], [SFT]) else None


def wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the points of our responses against theirs, shape (seeds, prompts); a tie is half a point."""
    return over_samples((ours > theirs) + 0.5 * (ours == theirs))


def of_points(points: Points, methods: list[str], clusters: np.ndarray | None) -> list[Effect]:
    """Return the effects of a design: SFT first, and each further method's loss against the first one's."""
    added = {method: points[method, True] - points[method, False] for method in methods}
    level = {method: (points[method, True] + points[method, False]) / 2 for method in methods}
    zero = np.zeros_like(points[methods[0], True])

    def effect(name: str, gains: str, loses: str, contrast: np.ndarray) -> Effect:
        return Effect(name, gains, loses, differ(contrast, zero, clusters, "higher"))

    whatever, both = "whatever the loss", "with SFT first or without"
    gained = np.mean(list(added.values()), axis=0)
    found = [effect("SFT first", f"SFT first gains, {whatever}", f"SFT first costs, {whatever}", gained)]
    first, *others = methods
    for method in others:
        ours, theirs = METHODS[method].label, METHODS[first].label
        loss, more = f"{ours}'s loss instead of {theirs}'s", "SFT first adds more to {} than to {}"
        found.append(effect(loss, f"{loss} gains, {both}", f"{loss} costs, {both}", level[method] - level[first]))
        interaction = added[first] - added[method]
        together = f"Interaction of SFT first and {ours}'s loss"
        found.append(effect(together, more.format(theirs, ours), more.format(ours, theirs), interaction))
    adjusted = holm([one.difference for one in found])
    return [replace(one, difference=difference) for one, difference in zip(found, adjusted, strict=True)]


def by_setting(rows: list[Row]) -> Iterator[tuple[str, list[Effect]]]:
    """Yield each setting that has effects, with them."""
    for setting, group in groupby([row for row in rows if row.stages], lambda row: row.setting):
        if found := effects(list(group)):
            yield str(setting), found


def stage_or_loss(rows: list[Row]) -> list[tuple[str, list[list[str]]]]:
    """Return each setting's effects as a table, head first, with its title."""
    head = ["effect", "points of win rate against SFT", "p", "p after Holm", "verdict"]
    return [
        (f"The stage or the loss {setting}".strip(), [head, *map(line, found)]) for setting, found in by_setting(rows)
    ]


def line(effect: Effect) -> list[str]:
    """Return an effect's line."""
    found, verdict = effect.difference, "sure" if effect.difference.sure else UNSURE
    return [effect.name, found.points, probability(found.p), probability(found.adjusted), verdict]


def told(rows: list[Row]) -> list[str]:
    """Return a sentence for each setting that has effects, and what DPO without SFT is held to."""
    said = [
        f"{f'{setting}: ' if setting else ''}{'; '.join(effect.sentence for effect in found)}."
        for setting, found in by_setting(rows)
    ]
    alone = any(row.stages == ["dpo"] for row in rows)
    return [*said, *([APART] if alone else [])]
