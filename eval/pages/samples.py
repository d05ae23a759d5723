"""A few held-out prompts with every pipeline's answer side by side, by a rule that leaves nobody a choice."""

from dataclasses import dataclass
from typing import Any

from eval.results.row import Row
from eval.results.session import measured, models_of
from eval.results.table import title
from recipes.config import read_json

PROMPTS = 12


@dataclass(frozen=True)
class Side:
    """One pipeline's answer to a prompt, with its score where there is one."""

    name: str
    text: str
    score: float | None
    tokens: int
    stopped: bool


def side_by_side(rows: list[Row], jobs: list[dict[str, Any]]) -> list[tuple[str, str, list[Side]]]:
    """Return `PROMPTS` held-out prompts at equal distances, so that none is chosen: place, prompt, and every answer.

    The answers are those that win rates are decided by, at temperature 1, of each row's first seed.
    """
    groups: dict[tuple[str, ...], list[tuple[Row, list[dict[str, Any]]]]] = {}
    for row in rows:  # a sweep over data sets has several lists of prompts
        answers = sampled(row, jobs)
        groups.setdefault(tuple(answer["prompt"] for answer in answers), []).append((row, answers))
    return [
        (
            f"Prompt {place + 1} of {len(prompts)}",
            prompts[place],
            [side(title(row), answers[place]) for row, answers in group],
        )
        for prompts, group in groups.items()
        for place in sorted({number * len(prompts) // PROMPTS for number in range(PROMPTS)})
    ]


def sampled(row: Row, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sampled answers of a row's first seed."""
    directory = row.directories[0][-1]
    (job, *_) = (job for job in jobs if job["seed"] == row.seeds[0] and directory in models_of(job))
    return read_json(measured(directory, job["evaluation"]))["sampled"]


def side(name: str, answer: dict[str, Any]) -> Side:
    """Return what is shown of one answer."""
    return Side(name, answer["text"], answer.get("gold"), answer["tokens"], answer["stopped"])
