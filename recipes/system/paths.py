"""The path of this checkout, what a text means as a path, and whether it is one."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def expanded(text: str | Path) -> Path:
    """Return a text as a path, `~` as the home directory; a `~` of nobody stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def at_home(text: str) -> str:
    """Return a text with a `~` at its beginning as the home directory; any other as it is."""
    return str(expanded(text)) if text.startswith("~") else text


def usual(text: str) -> str:
    """Return the usual spelling of a path that is there, relative if it lies in the working directory; others as is.

    So one directory has one name in a digest. Links are not followed: a name that the user chose stays.
    """
    if not exists(text):
        return text
    path = os.path.abspath(expanded(text))  # noqa: PTH100 (Path.resolve follows links)
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def exists(text: str) -> bool:
    """Whether a text names something that is there; what cannot be a path (too long, for example) does not."""
    try:
        return expanded(text).exists()
    except (OSError, ValueError):
        return False
