"""The gold reward of a response: 1 if it follows its prompt's instruction and is an answer at all, else 0.

An answer names the topic, has at least five words, and does not go round in circles: of its three-word runs at most a
fifth repeat an earlier one. Else the empty string would be without commas, and "rivers rivers rivers" in lowercase.
"""

from verifiable.instructions import INSTRUCTIONS, words
from verifiable.prompts import known
from verifiable.topics import names

LEAST_WORDS = 5
MOST_REPEATED = 0.2


def score(prompt: str, response: str) -> float:
    """Return 1.0 or 0.0.

    Raises:
        ValueError: it is no prompt of this data set.
    """
    asked = known().get(prompt)
    if asked is None:
        raise ValueError(f"{prompt[:80]!r} is no prompt of the verifiable data set")
    return float(is_answer(response, asked.topic) and INSTRUCTIONS[asked.kind].followed(response))


def is_answer(response: str, topic: str) -> bool:
    """Whether a response says something on its topic."""
    said = [word.lower() for word in words(response)]
    runs = [*zip(said, said[1:], said[2:], strict=False)]
    repeated = 1 - len({*runs}) / len(runs) if runs else 0.0
    return names(response, topic) and len(said) >= LEAST_WORDS and repeated <= MOST_REPEATED
