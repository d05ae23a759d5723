"""Which held-out pairs there are, and which prompts are asked: theirs, and those of responses without a partner."""

from pathlib import Path
from typing import Any

from recipes.profiles import TEST


def held_out(settings: dict[str, Any]) -> Any:
    """Return the prepared pairs of the split that a job is evaluated on; a single one is none: an interval needs two.

    Raises:
        UserError: they are missing or damaged.
    """
    from recipes.data.pairs import open_pairs  # takes seconds, which a table of old results does not need

    pairs = open_pairs(Path(settings["pairs"]))[settings.get("split", TEST)]
    return pairs if len(pairs) > 1 else pairs.select([])


def held_out_rows(settings: dict[str, Any]) -> Any:
    """Return the prepared pairs of that split, and behind them the responses without a partner.

    Raises:
        UserError: they are missing or damaged.
    """
    from recipes.data.pairs import open_pairs
    from recipes.data.unpaired import with_unpaired

    return with_unpaired(open_pairs(Path(settings["pairs"])), settings.get("split", TEST))


def held_out_prompts(settings: dict[str, Any]) -> Any:
    """Return the first of those rows of every prompt.

    Raises:
        UserError: they are missing or damaged.
    """
    rows = held_out_rows(settings)
    return rows.select(distinct(rows))


def distinct(pairs: Any) -> list[int]:
    """Return the place of the first pair of every prompt: a prompt is asked once, however many pairs it has."""
    from recipes.data.values import column

    first: dict[tuple[int, ...], int] = {}
    for place, ids in enumerate(column(pairs, "prompt_ids")):
        first.setdefault(tuple(ids), place)
    return list(first.values())
