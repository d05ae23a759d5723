"""Responses, how they were sampled, and the file that caches them."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from recipes.config import UserError


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled: from the full distribution at a temperature, or greedily at 0."""

    max_new_tokens: int
    temperature: float
    samples: int = 1  # responses per prompt; greedy ones are all equal
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """One response: its text, its tokens without the stop, and whether it ended with a stop token or was truncated."""

    text: str
    tokens: int
    stopped: bool
    ids: list[int] | None = None  # sampled tokens, the stop included; an endpoint returns none, older files have none


def content_key(identity: str, prompt: Any, sampling: Sampling, sample: int) -> str:
    """Return the key of one response: the model, the prompt, and the sampling unless it is greedy."""
    drawn = [sampling.temperature, sampling.seed, sample] if sampling.temperature else []
    text = json.dumps([identity, prompt, sampling.max_new_tokens, *drawn])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def draw_key(prompt: Any, sample: int, seed: int) -> int:
    """Return 128 bits that seed the random numbers of one response: no two prompts or samples share theirs."""
    digest = hashlib.sha256(json.dumps([seed, sample, prompt]).encode()).digest()
    return int.from_bytes(digest[:16], "big")


class Kept:
    """A file of responses by content key, one per line, written as they come: a killed evaluation resumes from it.

    A truncated or damaged line is ignored, and its response is generated again.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if it exists.

        Raises:
            UserError: a whole line contains something else.
        """
        self.path = path
        self.found: dict[str, Answer] = {}
        text = path.read_bytes() if path.exists() else b""
        self.torn = not text.endswith(b"\n") and bool(text)
        for line in text.split(b"\n"):  # a response may contain other characters at which str.splitlines splits
            try:
                values = json.loads(line.decode())
            except ValueError:
                continue
            known = {"key", *(part.name for part in fields(Answer))}
            if not isinstance(values, dict) or values.keys() | {"ids"} != known:
                raise UserError(f"{path} has a line that is no response of this project: remove it to generate again")
            key = values.pop("key")
            self.found[key] = Answer(**values)

    def add(self, key: str, answer: Answer) -> None:
        """Keep one response, in memory and in the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, **asdict(answer)}, ensure_ascii=False)
        with self.path.open("ab") as file:  # one write: a kill leaves at most one truncated line
            file.write(("\n" * self.torn + line + "\n").encode(errors="replace"))
        self.torn = False
        self.found[key] = answer


def is_answer(value: Any) -> bool:
    """Whether a value is a response as `python -m eval` keeps it."""
    return isinstance(value, dict) and {"prompt", "text", "tokens", "stopped"} <= value.keys()
