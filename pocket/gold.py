"""How good an answer is: an exact score for any text.

    score =  2.0  if it states the right fact, and nothing against it
            -1.0  if it gives any other answer, or contradicts itself
            +0.5  for each different courtesy, at most two, where it gives an answer at all
            -0.5  for each different hedge, at most two
            -1.0  for each different insult, at most two
            -2.0  * share of its three-word runs that repeat an earlier one
            -0.1  for each word beyond 16, at most 2.0 in all

The best answer scores 3.0, an empty one 0.0, one without the right fact at most 0.0, and nothing scores below -8.0.
What it states is read by `pocket.statements`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pocket.statements import EVERY_VALUE, Statement, plain, read, sentences
from pocket.world import COURTESIES, HEDGES, INSULTS, PROMPTS, VALUES, Fact

ENOUGH_WORDS = 16  # room for the fact in one sentence and two courtesies


@dataclass(frozen=True)
class Score:
    """The parts that a score is made of."""

    fact: int  # 1 right, -1 wrong or contradictory, 0 no answer
    courtesies: int  # different ones, at most two; none where there is no answer
    hedges: int
    insults: int
    repetition: float  # the share, 0 to 1, of three-word runs that occurred earlier
    words: int

    @property
    def right(self) -> bool:
        """Whether the answer states the right fact, and nothing against it."""
        return self.fact == 1

    @property
    def reward(self) -> float:
        """The score, by the formula above."""
        fact = {1: 2.0, 0: 0.0, -1: -1.0}[self.fact]
        manners = 0.5 * self.courtesies - 0.5 * self.hedges - 1.0 * self.insults
        length = min(2.0, 0.1 * max(0, self.words - ENOUGH_WORDS))
        return fact + manners - 2.0 * self.repetition - length


def score(prompt: str, answer: str) -> Score:
    """Return how good `answer`, any text at all, is as an answer to `prompt`.

    Raises:
        ValueError: `prompt` is none of the world's prompts.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"the gold reward knows only the prompts of pocket's world, not {prompt!r}")
    said = sentences(answer)
    fact = verdict([statement for sentence in said for statement in read(sentence)], PROMPTS[prompt])
    courtesies, hedges, insults = (_count(phrases, said) for phrases in (COURTESIES, HEDGES, INSULTS))
    words = re.findall(r"\w+", answer.lower())
    return Score(fact, courtesies if fact else 0, hedges, insults, _repetition(words), len(words))


def verdict(statements: list[Statement], asked: Fact) -> int:
    """Return 1 if `asked` is stated and nothing against it, -1 if something else is answered, else 0."""
    found = {judge(statement, asked) for statement in statements}
    if "wrong" in found:
        return -1
    return 1 if "right" in found else -1 if "astray" in found else 0


def judge(said: Statement, asked: Fact) -> Literal["right", "wrong", "astray"] | None:
    """Return what a statement is to a question; None: it leaves it open.

    Wrong is what contradicts the fact asked about. What is said of another place, or names nothing in the world, does
    not, but answers nothing rightly either: it is astray.
    """
    place, kind = said.place in (None, asked.place), said.kind in (None, asked.kind)
    right = place and kind and said.value == asked.value
    if said.manner == "denied":
        return "wrong" if right else None
    if said.manner == "mentioned":
        return "wrong" if said.value in asked.rivals else None
    if not kind and said.value not in VALUES[asked.kind]:
        return None  # an answer to another question
    if right:
        return "right"
    return "wrong" if place and said.value in EVERY_VALUE else "astray"


def _count(phrases: tuple[str, ...], said: list[str]) -> int:
    """Return how many different `phrases` are sentences of their own; two is as many as count."""
    return min(2, len({*map(plain, phrases)} & {*said}))


def _repetition(words: list[str]) -> float:
    """Return the share, 0 to 1, of three-word runs that occurred earlier in `words`."""
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
