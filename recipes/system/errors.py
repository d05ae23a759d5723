"""Errors that end a command with one line: those that the user can fix, and crashes."""

from recipes.system.secrets import redact

USER, CRASH, INTERRUPTED = 2, 1, 130  # exit statuses


class UserError(Exception):
    """An error that the user can fix: one line that says what is wrong, where, and what to do instead; no secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class CrashError(Exception):
    """A started process crashed; its log has the details, and the message ends with the log's path."""
