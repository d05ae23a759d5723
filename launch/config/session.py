"""The directory in which one invocation of the launcher keeps its jobs' outcomes."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recipes.config import UserError, read_json

SESSIONS = "_sessions"  # the directory of all of them, under `runs`


@dataclass
class Session:
    """The directory of one invocation, the same for all its jobs; created when Hydra first asks for it."""

    directory: Path | None = None
    temporary: bool = False  # whatever its name: it is removed again

    def place(self, runs: str, name: str | None, dry_run: bool) -> str:
        """Return the directory, as a resolver of `conf/config.yaml`; the first call decides which.

        A named session may exist already: its jobs' outcomes are removed and written again. A check or a dry run does
        not touch it.

        Raises:
            UserError: the name could leave `runs/`, or nothing can be written there.
        """
        if self.directory is None:
            if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
                raise UserError(f"session={name}: use letters, digits, '.', '_', '+' and '-', a letter or digit first")
            name = (None if dry_run or self.temporary else name) or f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
            self.directory = Path(runs, SESSIONS, name).expanduser()
            above = next(place for place in self.directory.absolute().parents if place.exists())
            if not (above.is_dir() and os.access(above, os.W_OK)):
                raise UserError(f"runs={runs}: nothing can be written in {above}; name a directory to train in")
            for old in self.directory.rglob("job.json"):  # the trials' of `tune=` too, of which there may be fewer now
                old.unlink()
        return str(self.directory)


def ran_before(words: list[str]) -> bool:
    """Whether the newest job ran these words, the seed aside, without an error: then hardly anything is to train."""
    runs = next((word.partition("=")[2] for word in words if word.startswith("runs=")), "runs")
    jobs = Path(runs, SESSIONS).glob("*/*/job.json")
    with suppress(ValueError, OSError, UserError, KeyError, TypeError):  # no job yet, or a damaged one
        last = read_json(max(jobs, key=lambda path: path.stat().st_mtime))
        given = {word for word in words if not word.startswith(("-", "seed="))}
        return not last["status"] and {*last["overrides"]} == given
    return False
