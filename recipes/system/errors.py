"""What ends a command in one line: what the user can mend, and what crashed."""

from recipes.system.secrets import redact

USER, CRASH, INTERRUPTED = 2, 1, 130  # exit statuses


class UserError(Exception):
    """What the user can mend: one line that says what is wrong, where, and what to do instead; without secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class CrashError(Exception):
    """A process that was started crashed, which its caller told in a log; the message ends with the log's path."""
