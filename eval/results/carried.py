"""What carries over in the embedded world: prompts about places of the pairs, beside those about places of no pair."""

import numpy as np

from eval.results.cells import title
from eval.results.deciding import outcomes
from eval.results.metric import percent
from eval.results.metrics import RIGHT_SAMPLED, WIN
from eval.results.row import Row
from eval.results.statistics import ABSENT, Estimate, compare, share

KINDS = {"seen places": False, "unseen places": True}


def carried_over(rows: list[Row]) -> list[tuple[str, list[list[str]]]]:
    """Return the table, head first, with its title: right facts and win rates over SFT; none without both kinds.

    The brackets are 95% intervals. They are no verdicts: those are of all prompts.
    """
    if len({*unseen(rows[0])}) < 2:
        return []
    head = ["", *(f"right fact, {kind}" for kind in KINDS), *(f"win rate against SFT, {kind}" for kind in KINDS)]
    return [("What carries over", [head, *([title(row), *right(row), *wins(row, rows)] for row in rows)])]


def unseen(row: Row) -> np.ndarray:
    """Return, for each prompt, whether it asks about a place of no pair; nowhere outside the embedded world."""
    return np.array([answer.get("unseen", False) for answer in row.results[0]["sampled"]])


def right(row: Row) -> list[str]:
    """Return how often a row's responses at temperature 1 state the right fact, for each kind of prompts."""
    scores, clusters, kinds = RIGHT_SAMPLED.scores(row), RIGHT_SAMPLED.clusters(row), unseen(row)
    return [text(share(scores[:, kinds == kind], without_gaps(clusters[kinds == kind]))) for kind in KINDS.values()]


def wins(row: Row, rows: list[Row]) -> list[str]:
    """Return how often a row's responses win over those of SFT under the same setting, for each kind of prompts."""
    sft = next((other for other in rows if other.pipeline == "sft" and other.setting == row.setting), None)
    decides = outcomes(row).get(WIN)
    seeds = [seed for seed in row.seeds if sft and seed in sft.seeds]
    if sft is None or sft is row or not (row.stages and decides and seeds):
        return [ABSENT] * len(KINDS)
    ours, theirs = decides.of_seeds(row, seeds), decides.of_seeds(sft, seeds)
    clusters, kinds = decides.clusters(row), unseen(row)
    return [
        text(compare(ours[:, kinds == kind], theirs[:, kinds == kind], without_gaps(clusters[kinds == kind])).rate)
        for kind in KINDS.values()
    ]


def without_gaps(clusters: np.ndarray) -> np.ndarray:
    """Return the clusters of some prompts, numbered without gaps."""
    return np.unique(clusters, return_inverse=True)[1]


def text(found: Estimate) -> str:
    """Return one cell: a share with its interval."""
    return f"{percent(found.mean)} [{percent(found.low)}, {percent(found.high)}]"
