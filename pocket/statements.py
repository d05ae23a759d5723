"""What an answer states, read by the forms in which the world writes (`world.ANSWERS`), a sentence at a time.

Case, commas and spacing do not count. Any words may stand in the place of a form's names, so that an invented name is
read as one. A form may give several values ("Alder, not Dwyn"); `not` denies the one after it. Values alone are short
for "It is …". A sentence in no form states nothing; values that it names without a `not` are mentioned.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pocket.world import ANSWERS, PLACES, VALUES

Manner = Literal["stated", "denied", "mentioned"]
EVERY_VALUE = [value for values in VALUES.values() for value in values]
NAMES = {name.lower(): name for name in (*PLACES, *VALUES, *EVERY_VALUE)}
_NOT, _VALUE = "not|no|never|neither|nor", "|".join(map(str.lower, EVERY_VALUE))
_LINK = f"{_NOT}|and|or|but|either"
NOT = re.compile(rf"\b(?:{_NOT})\b")
VALUE = re.compile(rf"\b(?:({_NOT}) )?({_VALUE})\b")
VALUES_ALONE = re.compile(f"(?:(?:{_LINK}) )*(?:{_VALUE})(?:(?: (?:{_LINK}))+ (?:{_VALUE}))*")


@dataclass(frozen=True)
class Statement:
    """That the `kind` of `place` is `value`, as the world spells them; None is what the question asks about."""

    place: str | None
    kind: str | None
    value: str
    manner: Manner


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, each as `plain` has it."""
    return [plain(sentence) for sentence in re.split(r"[.!?;:\n]+", text)]


def plain(text: str) -> str:
    """Return the words of a text in small letters with a space between, `n't` and `'s` written out."""
    written_out = text.lower().replace("’", "'").replace("n't", " not").replace("'s", " is")
    return " ".join(re.findall(r"\w+", written_out))


def reader(form: str) -> re.Pattern[str]:
    """Return the pattern of a form's plain sentences: its words, and any words in the place of its names."""
    words = plain(form).split()
    return re.compile(" ".join(f"(?P<{word}>.+?)" if f"{{{word}}}" in form else word for word in words))


READERS = [reader(form) for form in ANSWERS]


def read(sentence: str) -> list[Statement]:
    """Return what a plain sentence states, denies or mentions."""
    whole = f"it is {sentence}" if VALUES_ALONE.fullmatch(sentence) else sentence
    for form in READERS:
        if found := form.fullmatch(whole):
            holes = {hole: NAMES.get(words, words) for hole, words in found.groupdict().items()}
            place, kind = holes.get("place"), holes.get("kind")
            if VALUES_ALONE.fullmatch(found["value"]):
                return [Statement(place, kind, *value) for value in values(found["value"])]
            manner: Manner = "denied" if NOT.match(found["value"]) else "stated"
            return [Statement(place, kind, holes["value"], manner), *mentions(whole)]
    return mentions(whole)


def values(words: str) -> list[tuple[str, Manner]]:
    """Return the values in plain words, and whether each is stated or denied."""
    return [(NAMES[value], "denied" if denied else "stated") for denied, value in VALUE.findall(words)]


def mentions(sentence: str) -> list[Statement]:
    """Return the values that a sentence names without a `not`."""
    named = [] if NOT.search(sentence) else values(sentence)
    return [Statement(None, None, value, "mentioned") for value, _ in named]
