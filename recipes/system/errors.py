"""Errors that end a command with one line: those that the user can fix, and crashes."""

import difflib
from collections.abc import Iterable

from recipes.system.secrets import redact

USER, CRASH, INTERRUPTED = 2, 1, 130  # exit statuses


class UserError(Exception):
    """An error that the user can fix: one line that says what is wrong, where, and what to do instead; no secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class CrashError(Exception):
    """A started process crashed; its log has the details, and the message ends with the log's path."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest what was meant, if a known name is close."""
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""
