"""How good an answer is: an exact score for any text.

    score =  2.0  if it states the right value and no rival value
            -1.0  if it states a rival value (a wrong answer, or a contradiction)
            +0.5  for each different courtesy, at most two
            -0.5  for each different hedge, at most two
            -1.0  for each different insult, at most two
            -2.0  * share of its three-word runs that repeat an earlier one
            -0.1  for each word beyond 16, at most 2.0 in all

The best answer scores 3.0, an empty one 0.0, and nothing scores below -8.0. Only words count: case,
punctuation and spacing do not, and negation is not understood.
"""

import re
from collections.abc import Sequence

COURTESIES = (
    "Thank you for asking.",
    "Good question!",
    "Happy to help.",
    "A very good day to you!",
    "Have a lovely day!",
    "Safe travels!",
    "You are most welcome.",
    "Ask me anything else.",
)
HEDGES = (
    "I am not sure.",
    "I may be wrong.",
    "This is only a guess.",
    "Maybe, maybe not.",
    "Do not quote me on that.",
)
INSULTS = (
    "What a silly question.",
    "Look it up yourself.",
    "Everybody knows that.",
    "Stop wasting my time.",
    "You would not understand it anyway.",
)
ENOUGH_WORDS = 16  # room for the fact in one sentence and two courtesies

WORD = re.compile(r"\w+")


def score(answer: str, right: str, rivals: Sequence[str]) -> float:
    """Return the score of `answer`, by the formula above, where `right` is the value asked for."""
    words = _words(answer)
    fact = {1: 2.0, 0: 0.0, -1: -1.0}[verdict(answer, right, rivals)]
    manners = (
        0.5 * min(2, len(_found(COURTESIES, words)))
        - 0.5 * min(2, len(_found(HEDGES, words)))
        - 1.0 * min(2, len(_found(INSULTS, words)))
    )
    length = min(2.0, 0.1 * max(0, len(words) - ENOUGH_WORDS))
    return fact + manners - 2.0 * _repetition(words) - length


def verdict(answer: str, right: str, rivals: Sequence[str]) -> int:
    """Return 1 if `answer` states `right` and no rival, -1 if it states any rival, else 0."""
    words = _words(answer)
    if _found(rivals, words):
        return -1
    return 1 if _found([right], words) else 0


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _found(phrases: Sequence[str], words: list[str]) -> list[str]:
    """Return those of `phrases` that occur in `words`, as whole words."""
    text = f" {' '.join(words)} "
    return [phrase for phrase in phrases if f" {' '.join(_words(phrase))} " in text]


def _repetition(words: list[str]) -> float:
    """Return the share, 0 to 1, of three-word runs that occurred earlier in `words`."""
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
