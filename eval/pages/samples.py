"""A few held-out prompts with every pipeline's response side by side, selected by a fixed rule."""

from dataclasses import dataclass
from typing import Any

from eval.results.row import Row
from eval.results.table import title

PROMPTS = 12


@dataclass(frozen=True)
class Side:
    """One pipeline's response to a prompt, with its score if it has one."""

    name: str
    text: str
    score: float | None
    tokens: int
    stopped: bool


def side_by_side(rows: list[Row]) -> list[tuple[str, str, list[Side]]]:
    """Return `PROMPTS` evenly spaced held-out prompts, so that none is hand-picked: index, prompt, and every response.

    The responses are those that decide win rates, at temperature 1, from each row's first seed.
    """
    groups: dict[tuple[str, ...], list[tuple[Row, list[dict[str, Any]]]]] = {}
    for row in rows:  # a sweep over data sets has several lists of prompts
        answers = row.results[0]["sampled"]
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


def side(name: str, answer: dict[str, Any]) -> Side:
    """Return what is shown of one response."""
    return Side(name, answer["text"], answer.get("gold"), answer["tokens"], answer["stopped"])
