"""Which held-out pairs' prompts are asked."""

from typing import Any


def distinct(pairs: Any) -> list[int]:
    """Return the place of the first pair of every prompt: a prompt is asked once, however many pairs it has."""
    first: dict[tuple[int, ...], int] = {}
    for place, ids in enumerate(pairs["prompt_ids"]):
        first.setdefault(tuple(ids), place)
    return list(first.values())
