"""People's votes on pairs of responses: a file for each judge, a line for each vote, on the disk before the next pair.

A vote that is undone stays in the file; a line that retracts it follows.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.config import UserError

SKIP, UNDO = "skip", "undo"
POINTS = {"left": 1.0, "tie": 0.5, "right": 0.0, SKIP: None}  # of the response on the left


def key(*values: Any) -> str:
    """Return sixteen hexadecimal digits that stand for plain values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Pair:
    """Two pipelines' responses to one held-out prompt, of one seed."""

    prompt: str
    seed: int
    names: tuple[str, str]
    texts: tuple[str, str]
    automatic: float | None  # for the first: 1 if the table counts a win, 0.5 a tie, 0 a loss; None: neither

    @cached_property
    def id(self) -> str:
        """A digest of all that is compared, so that no vote counts for responses that were generated again."""
        return key(self.prompt, self.seed, sorted(zip(self.names, self.texts, strict=True)))


@dataclass(frozen=True)
class Vote:
    """What a judge chose between two responses to a prompt."""

    judge: str
    pair: str  # `Pair.id`
    prompt: str  # its digest
    seed: int
    left: str  # the pipeline whose response stood there
    right: str
    choice: str  # of `POINTS`, or `UNDO`
    time: str  # UTC, ISO 8601

    def points(self, pair: Pair) -> float | None:
        """Return what the pair's first response gets, between 0 and 1; None where the judge skipped the pair."""
        left = POINTS[self.choice]
        return left if left is None or self.left == pair.names[0] else 1 - left


class Ballot:
    """One judge's votes on a session in the order in which they were cast, without those that were undone."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises:
            UserError: see `read`.
        """
        self.path, self.votes = path, read(path)
        self.torn = path.stat().st_size > 0  # a kill may have cut the last line; an empty line does no harm

    def cast(self, vote: Vote) -> None:
        """Keep a vote: in the file, and only then here."""
        line, torn, self.torn = json.dumps(asdict(vote)), self.torn, True
        with self.path.open("a") as file:
            file.write("\n" * torn + line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.torn = False
        self.votes[vote.pair] = vote

    def undo(self, vote: Vote) -> None:
        """Retract a vote by a further line."""
        self.cast(replace(vote, choice=UNDO, time=now()))
        del self.votes[vote.pair]


@contextmanager
def ballot(session: Path, judge: str) -> Iterator[Ballot]:
    """Open a judge's votes on a session to go on.

    Raises:
        UserError: another process has them open, or the file holds something else.
    """
    path = session / "votes" / f"{judge}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{judge} is judging already, into {path}: end that first, or take another name=") from None
        yield Ballot(path)


def read(path: Path) -> dict[str, Vote]:
    """Return the votes of a file by their pairs; an incomplete line is no vote.

    Raises:
        UserError: a line is whole and holds something else.
    """
    votes: dict[str, Vote] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if not isinstance(values, dict) or values.keys() != Vote.__dataclass_fields__.keys():
            raise UserError(f"{path}: line {number} is no vote of this project: remove it")
        vote = Vote(**values)
        votes.pop(vote.pair, None)  # so that the last one cast is the last one here
        if vote.choice in POINTS:
            votes[vote.pair] = vote
    return votes


def votes_on(session: Path) -> dict[str, list[Vote]]:
    """Return all judges' votes on a session by their pairs.

    Raises:
        UserError: see `read`.
    """
    found: dict[str, list[Vote]] = {}
    for path in sorted((session / "votes").glob("*.jsonl")):
        for vote in read(path).values():
            found.setdefault(vote.pair, []).append(vote)
    return found


def now() -> str:
    """Return the time as a vote keeps it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
