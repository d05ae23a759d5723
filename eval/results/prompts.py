"""Which held-out pairs there are, and which of their prompts are asked."""

from pathlib import Path
from typing import Any

from recipes.profiles import TEST


def held_out(settings: dict[str, Any]) -> Any:
    """Return the prepared pairs of the split that a job is evaluated on.

    Raises:
        UserError: they are missing or damaged.
    """
    from recipes.data.prepare import open_pairs  # takes seconds, which a table of old results does not need

    return open_pairs(Path(settings["pairs"]))[settings.get("split", TEST)]


def distinct(pairs: Any) -> list[int]:
    """Return the place of the first pair of every prompt: a prompt is asked once, however many pairs it has."""
    first: dict[tuple[int, ...], int] = {}
    for place, ids in enumerate(pairs["prompt_ids"]):
        first.setdefault(tuple(ids), place)
    return list(first.values())
