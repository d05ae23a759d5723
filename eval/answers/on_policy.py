"""Pairs of a model's own responses: of several to one prompt, the best and the worst by a score."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from eval.answers.store import Answer

EQUAL, FEW = "equal scores", "fewer than two whole responses"


@dataclass(frozen=True)
class Scored:
    """A response and what it is worth."""

    answer: Answer
    score: float


@dataclass(frozen=True)
class Chosen:
    """A pair, or why there is none."""

    chosen: Scored | None = None
    rejected: Scored | None = None
    reason: str | None = None


def choose(responses: Iterable[Scored], margin: float = 0.0) -> Chosen:
    """Return a best and a worst response; of several alike the two whose lengths differ least.

    So the pair tells what the score means and not which response is longer. Responses that are empty or were cut off
    take no part: training would teach that they end where they were cut.

    Args:
        responses: to one prompt.
        margin: the difference of the scores is above it.
    """
    whole = [response for response in responses if response.answer.stopped and response.answer.text.strip()]
    if len(whole) < 2:
        return Chosen(reason=FEW)
    scores = [response.score for response in whole]
    if max(scores) - min(scores) <= margin:
        return Chosen(reason=EQUAL)
    best, worst = ([one for one in whole if one.score == score] for score in (max(scores), min(scores)))
    return Chosen(*min(product(best, worst), key=lambda pair: abs(pair[0].answer.tokens - pair[1].answer.tokens)))


def as_row(prompt: list[dict[str, Any]], pair: Chosen, more: dict[str, Any]) -> dict[str, Any]:
    """Return a pair in the common schema, with its scores and `more` columns."""
    assert pair.chosen and pair.rejected
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    texts = {side: [{"role": "assistant", "content": scored.answer.text}] for side, scored in sides.items()}
    return {**more, "prompt": prompt, **texts, **{f"score_{side}": scored.score for side, scored in sides.items()}}


def summary(pairs: list[Chosen], scores: list[list[float]]) -> str:
    """Say how many prompts made a pair, why others did not, and how the two sides differ."""
    found = [(pair.chosen, pair.rejected) for pair in pairs if pair.chosen and pair.rejected]
    reasons = Counter(pair.reason for pair in pairs if pair.reason)
    without = "".join(f", {count} with {reason}" for reason, count in reasons.most_common())
    said = f"{len(found)} pairs of {len(pairs)} prompts{without}; mean score {np.mean(scores):.3g}"
    if found:
        lengths = [np.mean([side.answer.tokens for side in sides]) for sides in zip(*found, strict=True)]
        said += f"; chosen {lengths[0]:.1f} tokens, rejected {lengths[1]:.1f}"
    return said
