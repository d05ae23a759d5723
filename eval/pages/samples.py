"""A few held-out prompts with every pipeline's response side by side, selected by a fixed rule."""

from dataclasses import dataclass
from typing import Any

from eval.results.cells import title
from eval.results.deciding import outcomes
from eval.results.metrics import WIN
from eval.results.prompts import held_out_prompts
from eval.results.row import Row
from eval.results.rows import arranged
from recipes.config import UserError

PROMPTS = 12


@dataclass(frozen=True)
class Side:
    """One pipeline's response to a prompt."""

    name: str
    text: str
    reasons: list[str]  # why it won or lost: its reward, its fact, its length
    outcome: str  # "won", "tied", or "": it lost, or is no candidate


@dataclass(frozen=True)
class Example:
    """A prompt with every response, the candidates' first, and the data's own chosen response if it is still there."""

    place: str
    prompt: str
    sides: list[Side]
    chosen: str | None


def side_by_side(rows: list[Row]) -> list[Example]:
    """Return `PROMPTS` evenly spaced held-out prompts, so that none is hand-picked.

    The responses are those that decide win rates, at temperature 1, from each row's first seed.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in arranged(rows):  # a sweep over data sets has several lists of prompts
        groups.setdefault(tuple(answer["prompt"] for answer in row.results[0]["sampled"]), []).append(row)
    examples = []
    for prompts, group in groups.items():
        chosen = chosen_responses(group[0])
        for place in sorted({number * len(prompts) // PROMPTS for number in range(PROMPTS)}):
            name = f"Prompt {place + 1} of {len(prompts)}"
            examples.append(
                Example(name, prompts[place], sides(group, place), chosen[place] or None if chosen else None)
            )
    return examples


def sides(rows: list[Row], place: int) -> list[Side]:
    """Return every pipeline's response to a prompt."""
    answers = [row.results[0]["sampled"][place] for row in rows]
    return [
        Side(title(row), answer["text"], reasons(answer), outcome(row, rows, place))
        for row, answer in zip(rows, answers, strict=True)
    ]


def outcome(row: Row, rows: list[Row], place: int) -> str:
    """Return whether a candidate's response has the highest score of its setting's candidates, alone or not."""
    rivals = [one for one in rows if candidate(one) and (one.setting, one.seeds[0]) == (row.setting, row.seeds[0])]
    decides = outcomes(row).get(WIN)
    if len(rivals) < 2 or not candidate(row) or decides is None:
        return ""
    own, *scores = (float(decides.scores(one)[0, place].ravel()[0]) for one in (row, *rivals))
    if own < max(scores):
        return ""
    return "won" if scores.count(own) == 1 else "tied"


def candidate(row: Row) -> bool:
    """Whether a row is one of the pipelines that are compared with SFT."""
    return bool(row.stages) and row.pipeline != "sft"


def reasons(answer: dict[str, Any]) -> list[str]:
    """Return what explains a response's score."""
    found = [f"judge's reward {answer['reward']:.2f}"] if "reward" in answer else []
    if "gold" in answer:
        found.append(f"gold reward {answer['gold']:.2f}")
    if "right" in answer:
        found.append("right fact" if answer["right"] else "not the right fact")
    if (count := answer.get("courtesies")) is not None:
        found.append(f"{count} {'courtesy' if count == 1 else 'courtesies'}")
    return [*found, f"{answer['tokens']} tokens" + ("" if answer["stopped"] else ", truncated")]


def chosen_responses(row: Row) -> list[str] | None:
    """Return the data's chosen response to each prompt, "" if there is none; None if the pairs were removed."""
    try:
        return list(held_out_prompts(row.results[0]["settings"])["chosen"])
    except (KeyError, UserError):  # a measurement by older code does not name its pairs
        return None
