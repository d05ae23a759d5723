"""Rows as in their sources, shortened for reading."""

from collections.abc import Sequence
from typing import Any

from recipes.data.sources import load_source
from recipes.profiles import Dataset

BEGINNING, END = 240, 160  # characters shown of a text


class Originals:
    """The sources' original rows, read again for rows that could not be parsed."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts
        self.loaded: dict[str, Any] = {}

    def row(self, split: str, source: str, number: int) -> dict[str, Any]:
        """Return one row."""
        if source not in self.loaded:
            (part,) = (part for part in self.parts if part.name == source)
            self.loaded[source] = load_source(part, train_only=len(self.parts) > 1)
        found = self.loaded[source][split].rows[number]
        return found if isinstance(found, dict) else {}


def excerpts(row: dict[str, Any], split: str, read: Originals) -> dict[str, str]:
    """Return column -> the beginning and end of its text, for an examined row; `why` if it has a detail."""
    if row["problem"] in ("", "unrendered"):
        columns = {name: row[name] for name in ("prompt", "chosen", "rejected", "extra") if row[name]}
    else:  # its texts were not parsed
        columns = read.row(split, row["source"], row["row"])
    why = {"why": row["detail"]} if row["detail"] else {}
    return why | {column: excerpt(said(value)) for column, value in columns.items()}


def said(value: Any) -> str:
    """Return a column's value as text: messages as `role: content`, anything else as it prints."""
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in value)
    return str(value)


def excerpt(text: str) -> str:
    """Return a text's beginning and, if it is long, its end."""
    text = text.strip()
    return text if len(text) <= BEGINNING + END + 20 else f"{text[:BEGINNING]} […] {text[-END:]}"
