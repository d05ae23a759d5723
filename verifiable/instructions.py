"""The kinds of instructions, each with its wordings and the check of a response.

They are kinds of IFEval (Zhou et al. 2023, arXiv 2311.07911) that a small model follows now and then. A check reads
text alone. It does not ask, as IFEval's checks of case do, which language a detector finds in it: of two sentences
that is often wrong.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One kind: how it is worded, and whether a response follows it."""

    wordings: tuple[str, ...]
    followed: Callable[[str], bool]


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return re.findall(r"\w[\w'’-]*", text)


def bullets(count: int) -> Callable[[str], bool]:
    """Return what checks that as many lines begin with a bullet, as IFEval counts them."""
    return lambda text: len(re.findall(r"^\s*(?:\*(?!\*)|-)", text, re.MULTILINE)) == count


def holds(*wanted: str) -> Callable[[str], bool]:
    """Return what checks that all these words occur."""
    return lambda text: {*wanted} <= {word.lower() for word in words(text)}


def lacks(unwanted: str) -> Callable[[str], bool]:
    """Return what checks that a word does not occur."""
    return lambda text: unwanted not in [word.lower() for word in words(text)]


INSTRUCTIONS = {
    "no comma": Instruction(
        ("Do not use any commas.", "Use no commas at all.", "Your answer must not contain a comma."),
        lambda text: "," not in text,
    ),
    "three bullets": Instruction(
        (
            'Answer with exactly three bullet points, each a line that begins with "* ".',
            'Give exactly 3 short bullet points that start with "* ".',
        ),
        bullets(3),
    ),
    "one keyword": Instruction(
        ('Use the word "because".', 'The word "because" must occur in your answer.'), holds("because")
    ),
    "forbidden word": Instruction(
        ('Do not use the word "and".', 'The word "and" must not occur in your answer.'), lacks("and")
    ),
    "exclamation mark": Instruction(
        ("Use at least one exclamation mark.", "Your answer must contain an exclamation mark."),
        lambda text: "!" in text,
    ),
    "few words": Instruction(
        ("Use fewer than 16 words.", "Answer in at most 15 words."), lambda text: len(words(text)) < 16
    ),
    "many words": Instruction(
        ("Use at least 40 words.", "Your answer must have 40 words or more."), lambda text: len(words(text)) >= 40
    ),
    "placeholder": Instruction(
        ("Include a placeholder in square brackets, such as [name].", "Use one placeholder such as [place]."),
        lambda text: bool(re.search(r"\[[^\n\[\]]+\]", text)),
    ),
}
