"""The path of this checkout, and whether a text is a path."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def exists(text: str) -> bool:
    """Whether a text names something that is there; what cannot be a path does not (too long, a `~` of nobody)."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
