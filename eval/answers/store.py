"""Answers, how they were asked for, and the file that keeps them: what was answered once is not asked again."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from recipes.config import UserError


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: from the full distribution at a temperature, or greedily where that is 0."""

    max_new_tokens: int
    temperature: float
    samples: int = 1  # answers to each prompt; greedy ones are all the same
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """One answer: its text, its tokens without the stop, and whether it stopped by itself (else it was cut off)."""

    text: str
    tokens: int
    stopped: bool


def content_key(identity: str, prompt: Any, sampling: Sampling, sample: int) -> str:
    """Return what names one answer: who gives it, to what, and how it is drawn; greedily there is nothing to draw."""
    drawn = [sampling.temperature, sampling.seed, sample] if sampling.temperature else []
    text = json.dumps([identity, prompt, sampling.max_new_tokens, *drawn])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Kept:
    """A file of answers by content key, a line each, written as they come: a killed evaluation goes on from it.

    A line that was cut off or is damaged is no answer; it is asked for again.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises:
            UserError: a line is whole and holds something else.
        """
        self.path = path
        self.found: dict[str, Answer] = {}
        text = path.read_bytes() if path.exists() else b""
        self.torn = not text.endswith(b"\n") and bool(text)
        for line in text.split(b"\n"):  # an answer may hold what else str.splitlines takes for the end of a line
            try:
                values = json.loads(line.decode())
            except ValueError:
                continue
            if not isinstance(values, dict) or values.keys() != {"key", *(part.name for part in fields(Answer))}:
                raise UserError(f"{path} holds something that is no answer of this project: remove it to ask anew")
            key = values.pop("key")
            self.found[key] = Answer(**values)

    def add(self, key: str, answer: Answer) -> None:
        """Keep one answer, in memory and in the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, **asdict(answer)}, ensure_ascii=False)
        with self.path.open("ab") as file:  # one write: a kill leaves at most one line cut off
            file.write(("\n" * self.torn + line + "\n").encode(errors="replace"))
        self.torn = False
        self.found[key] = answer


def is_answer(value: Any) -> bool:
    """Whether a value is an answer as `python -m eval` keeps it."""
    return isinstance(value, dict) and {"prompt", "text", "tokens", "stopped"} <= value.keys()
