"""What people's votes say: win rates of pipelines, and how far judges agree with the table and with each other."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from eval.answers.votes import Pair, Vote
from eval.results.deciding import outcomes
from eval.results.metrics import WIN, percent
from eval.results.row import Row
from eval.results.statistics import Comparison, Estimate, compare_points, share

Judged = list[tuple[Pair, Vote]]


def pairs_of(one: Row, other: Row) -> list[Pair]:
    """Return the pairs of two rows' sampled responses of their common seeds; of a repeated prompt, the first."""
    found: dict[tuple[int, str], Pair] = {}
    decides = outcomes(one).get(WIN)
    for seed in (seed for seed in one.seeds if seed in other.seeds):
        places = one.seeds.index(seed), other.seeds.index(seed)
        results = [row.results[place] for row, place in zip((one, other), places, strict=True)]
        worth = [decides.numbers(result) for result in results] if decides else None
        for number, (ours, theirs) in enumerate(zip(*(result["sampled"] for result in results), strict=True)):
            names, texts = (one.pipeline, other.pipeline), (ours["text"], theirs["text"])
            won = None if worth is None else float(np.sign(worth[0][number][0] - worth[1][number][0]) + 1) / 2
            pair = Pair(ours["prompt"], seed, names, texts, won)
            found.setdefault((seed, pair.prompt), pair)
    return list(found.values())


def compare_by_votes(judged: Judged, clusters: dict[str, int]) -> Comparison | None:
    """Compare two pipelines by the votes on their pairs; None with fewer than two prompts, or clusters of them.

    Judges' votes on a pair are averaged. A prompt counts if it has a vote with every seed that has any.
    """
    votes: dict[int, dict[str, list[float]]] = {}
    for pair, vote in judged:
        if (points := vote.points(pair)) is not None:
            votes.setdefault(pair.seed, {}).setdefault(pair.prompt, []).append(points)
    prompts = sorted(set.intersection(*map(set, votes.values()))) if votes else []
    related = np.unique([clusters[prompt] for prompt in prompts], return_inverse=True)[1]
    if len({*related}) < 2:
        return None
    points = [[np.mean(votes[seed][prompt]) for prompt in prompts] for seed in sorted(votes)]
    return compare_points(np.array(points), related)


def clusters_of(row: Row) -> dict[str, int]:
    """Return the cluster of each prompt that a row's models answered."""
    result = row.results[0]
    return {
        answer["prompt"]: cluster
        for answer, cluster in zip(result["sampled"], result["clusters"]["prompts"], strict=True)
    }


def notes(rows: list[Row]) -> Iterator[str]:
    """Say who voted, how often, and how far the judges agree."""
    votes = {(vote.judge, pair.id): (pair, vote) for row in rows for pair, vote in row.votes}.values()
    by_judge: dict[str, dict[Pair, float]] = {}
    clusters: dict[str, int] = {}
    for row in rows:  # of several data sets each has its own clusters
        first = max(clusters.values(), default=-1) + 1
        clusters = {prompt: first + number for prompt, number in clusters_of(row).items()} | clusters
    for pair, vote in votes:
        if (points := vote.points(pair)) is not None:
            by_judge.setdefault(vote.judge, {})[pair] = points
    if not by_judge:
        return
    counts = {name: len(own) for name, own in by_judge.items()}
    yield (
        f"People: {sum(counts.values())} votes on responses at temperature 1, blind, by "
        f"{', '.join(f'{name} ({count})' for name, count in counts.items())}; {len(votes) - sum(counts.values())} "
        "skipped. Several judges' votes on a pair are averaged. To agree is to say the same of win, tie and loss."
    )
    for name, own in by_judge.items():
        table = [(pair.prompt, points, pair.automatic) for pair, points in own.items() if pair.automatic is not None]
        if table:
            yield f"{name} and the table ({outcomes(rows[0])[WIN].label}) {agreement(table, clusters)}."
    for name, other in combinations(by_judge, 2):
        common = by_judge[name].items()
        both = [(pair.prompt, points, by_judge[other][pair]) for pair, points in common if pair in by_judge[other]]
        yield f"{name} and {other} {agreement(both, clusters)}."


def agreement(judged: list[tuple[str, float, float]], clusters: dict[str, int]) -> str:
    """Say on which share of the pairs two judges agree (prompt, points by one, points by the other), and Cohen's kappa.

    The interval is over clusters of prompts.
    """
    same: dict[str, list[bool]] = {}
    for prompt, one, other in judged:
        same.setdefault(prompt, []).append(one == other)
    related = np.unique([clusters[prompt] for prompt in same], return_inverse=True)[1]
    if len({*related}) < 2:
        return "have too few pairs in common"
    agreed = interval(share(np.array([[np.mean(equal) for equal in same.values()]]), related))
    found = kappa(*np.array([points for _, *points in judged]).T)
    return f"agree on {agreed} of {len(judged)} pairs, Cohen's kappa {'undefined' if found is None else f'{found:.2f}'}"


def kappa(one: np.ndarray, other: np.ndarray) -> float | None:
    """Return Cohen's kappa (1960) of two judges' points, three categories; None where both always say the same."""
    chance = sum(float(np.mean(one == points) * np.mean(other == points)) for points in (0.0, 0.5, 1.0))
    return None if chance == 1 else (float(np.mean(one == other)) - chance) / (1 - chance)


def interval(found: Estimate) -> str:
    """Return a share with its 95% interval."""
    return f"{percent(found.mean)} [{percent(found.low)}, {percent(found.high)}]"
