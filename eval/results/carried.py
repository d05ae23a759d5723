"""What carries over in the embedded world: new wordings about places of the pairs, beside places of no pair."""

import numpy as np

from eval.results.deciding import outcomes
from eval.results.metrics import WIN, Measured, percent, sampled
from eval.results.row import Row
from eval.results.rows import NAMES
from eval.results.statistics import Estimate, compare, share

KINDS = {"new wordings": False, "unseen places": True}
RIGHT = Measured("right_sampled", "right fact, temperature 1", percent, "higher", sampled("right"))


def carried_over(rows: list[Row]) -> list[list[str]]:
    """Return the table, head first: right facts and win rates over SFT for both kinds of prompts; empty without them.

    The brackets are 95% intervals. They are no verdicts: those are of all prompts.
    """
    if not rows[0].embedded or len({*unseen(rows[0])}) < 2:
        return []
    head = ["", *(f"right fact, {kind}" for kind in KINDS), *(f"win rate against SFT, {kind}" for kind in KINDS)]
    return [head, *([NAMES.get(row.pipeline, row.pipeline), *right(row), *wins(row, rows)] for row in rows)]


def unseen(row: Row) -> np.ndarray:
    """Return, for each prompt, whether it asks about a place of no pair."""
    return np.array([answer["unseen"] for answer in row.results[0]["sampled"]])


def right(row: Row) -> list[str]:
    """Return how often a row's responses at temperature 1 state the right fact, for each kind of prompts."""
    scores, clusters, kinds = RIGHT.scores(row), RIGHT.clusters(row), unseen(row)
    return [text(share(scores[:, kinds == kind], numbered(clusters[kinds == kind]))) for kind in KINDS.values()]


def wins(row: Row, rows: list[Row]) -> list[str]:
    """Return how often a row's responses win over those of SFT under the same setting, for each kind of prompts."""
    sft = next((other for other in rows if other.pipeline == "sft" and other.setting == row.setting), None)
    decides = outcomes(row).get(WIN)
    seeds = [seed for seed in row.seeds if sft and seed in sft.seeds]
    if sft is None or sft is row or not (row.stages and decides and seeds):
        return ["–"] * len(KINDS)
    ours, theirs = decides.of_seeds(row, seeds), decides.of_seeds(sft, seeds)
    clusters, kinds = decides.clusters(row), unseen(row)
    return [
        text(compare(ours[:, kinds == kind], theirs[:, kinds == kind], numbered(clusters[kinds == kind])).rate)
        for kind in KINDS.values()
    ]


def numbered(clusters: np.ndarray) -> np.ndarray:
    """Return the clusters of some prompts, numbered without gaps."""
    return np.unique(clusters, return_inverse=True)[1]


def text(found: Estimate) -> str:
    """Return one cell: a share with its interval."""
    return f"{percent(found.mean)} [{percent(found.low)}, {percent(found.high)}]"
