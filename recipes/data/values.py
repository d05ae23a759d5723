"""The values of a column, and the rows where something holds."""

from collections.abc import Iterable, Iterator
from typing import Any

from datasets import Dataset as Rows

BATCH = 1000  # rows that are turned into Python objects at once: a hundred times as fast as one by one


def column(rows: Rows, name: str) -> Iterator[Any]:
    """Yield the values of one column in order, whatever its size. Iterating over `rows[name]` reads row by row."""
    batch: Any
    for batch in rows.select_columns([name]).iter(BATCH):
        yield from batch[name]


def where(flags: Iterable[Any]) -> list[int]:
    """Return the indices of the true values."""
    return [index for index, flag in enumerate(flags) if flag]
