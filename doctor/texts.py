"""The prompts' languages and turns."""

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from recipes.data.values import column

SAMPLE = 2000  # rows whose language is guessed
TELLING = 20  # characters; a guess from fewer is useless
UNKNOWN = "too short to tell"
NAMED = 5


@dataclass(frozen=True)
class Languages:
    """ISO 639-1 code -> number of prompts in a sample."""

    counts: dict[str, int]
    sample: int


@dataclass(frozen=True)
class Turns:
    """The turns of the prompts."""

    with_system: int
    users: dict[str, int]  # number of the user's turns, "1" to "5+" -> number of prompts


def languages(rows: Any) -> Languages:
    """Guess the language of each prompt's last turn with py3langid, in a sample drawn with a fixed seed."""
    from py3langid import classify

    chosen = sorted(Random(0).sample(range(len(rows)), min(SAMPLE, len(rows))))
    texts = [turns[-1]["content"].strip() for turns in column(rows.select(chosen), "prompt")]
    counts = Counter(str(classify(text)[0]) if len(text) >= TELLING else UNKNOWN for text in texts)
    common = dict(counts.most_common(NAMED))
    rest = sum(counts.values()) - sum(common.values())
    return Languages(common | ({"others": rest} if rest else {}), len(chosen))


def turns(rows: Any) -> Turns:
    """Count system turns and the user's turns."""
    roles = [[turn["role"] for turn in prompt] for prompt in column(rows, "prompt")]
    users = Counter(min(NAMED, found.count("user")) for found in roles)
    names = {count: f"{count}+" if count == NAMED else str(count) for count in users}
    return Turns(sum("system" in found for found in roles), {names[count]: users[count] for count in sorted(users)})
