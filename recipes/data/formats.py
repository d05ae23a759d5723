"""The rows of one file, in every format that is read, as they stand there: each by itself, numbers with their spelling.

A column need not have one type in all rows, text that looks like a date, a number or JSON stays text, and a row that
cannot be read is that row's finding (but for a CSV file's quote that is never closed: it has no end). Nothing here
takes long to import.
"""

import csv
import gzip
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from recipes.data.columns import makes_pairs
from recipes.system.errors import UserError

Row = dict[str, Any]
SEPARATORS = (",", ";", "\t", "|")
BEGINNING = 4096  # characters of a JSON file in which its first one is looked for


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read; the reason is its finding."""

    reason: str


class Real(float):
    """A number of a JSON file that keeps its spelling: where text belongs, 1.50 stays `1.50`."""

    text: str

    def __new__(cls, text: str) -> "Real":
        """Parse and keep the text."""
        made = super().__new__(cls, text)
        made.text = text
        return made


NUMBERS: dict[str, Any] = {"parse_float": Real, "parse_constant": lambda _: None}  # NaN is nothing


def file_ending(path: Path | str) -> str:
    """Return a file's ending; for a gzipped file, that of its content."""
    return Path(str(path).removesuffix(".gz")).suffix.lower()


def read_file(path: Path) -> Iterator[Row | Broken]:
    """Yield the rows of one file.

    Raises:
        UserError: it cannot be parsed.
    """
    try:
        yield from READERS[file_ending(path)](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): convert it, for example with iconv") from None
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        kind, reason = file_ending(path)[1:], (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{path} cannot be read as {kind} ({reason}): make the file again, or fix this place") from None


def text_of(path: Path, newline: str | None) -> TextIO:
    """Open a text file, gzipped or not, without the mark that spreadsheets put before it."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline=newline)


def read_json(path: Path) -> Iterator[Row | Broken]:
    """Yield the rows of JSON Lines, or of a file that is one JSON array; a line that is no object is a broken row."""
    with text_of(path, newline="\n") as file:
        if file.read(BEGINNING).lstrip()[:1] == "[":
            file.seek(0)
            yield from map(as_object, json.load(file, **NUMBERS))
            return
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                yield parsed(line, number)


def parsed(line: str, number: int) -> Row | Broken:
    """Return one line of JSON Lines."""
    try:
        return as_object(json.loads(line, **NUMBERS))
    except json.JSONDecodeError as error:
        return Broken(f"is not JSON (line {number}, column {error.colno}: {error.msg})")


def as_object(value: Any) -> Row | Broken:
    """Return a row, if it is one."""
    if isinstance(value, dict):
        return value
    return Broken(f"is {type(value).__name__}, not an object with chosen and rejected")


def read_csv(path: Path) -> Iterator[Row | Broken]:
    """Yield the rows of a CSV file, whose cells are text, whatever stands in them."""
    csv.field_size_limit(sys.maxsize)
    with text_of(path, newline="") as file:
        rows = csv.reader(file, delimiter=separator(file), strict=True)
        names, begun = next(rows, []), rows.line_num
        if twice := {name for name in names if name.strip() and names.count(name) > 1}:
            raise ValueError(f"the header names {', '.join(sorted(twice))} twice")
        try:
            for values in rows:
                begun = rows.line_num  # the line after which the next row begins
                fits = len(values) == len(names)
                row = dict(zip(names, values, strict=False))
                if values:
                    yield row if fits else Broken(f"has {len(values)} fields where the header names {len(names)}")
        except csv.Error as error:
            raise ValueError(f"the row that begins at line {begun + 1}: {error}") from None


def separator(file: TextIO) -> str:
    """Return what separates the columns: what makes a pair's columns of the header, else what makes the most."""

    def columns(mark: str) -> list[str]:
        file.seek(0)
        return next(csv.reader(file, delimiter=mark), [])

    found = max(SEPARATORS, key=lambda mark: (makes_pairs(columns(mark)), len(columns(mark))))
    file.seek(0)
    return found


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1000):
            yield from map(without_nulls, batch.to_pylist())


def read_arrow(path: Path) -> Iterator[Row]:
    """Yield the rows of an Arrow file as `save_to_disk` of `datasets` writes it."""
    from pyarrow import ipc, memory_map

    with memory_map(str(path)) as file, ipc.open_stream(file) as batches:
        for batch in batches:
            yield from map(without_nulls, batch.to_pylist())


def without_nulls(row: Row) -> Row:
    """Return a row without the nulls with which Arrow fills objects (in a column all have the same keys)."""
    return {key: pruned(value) for key, value in row.items()}


def pruned(value: Any) -> Any:
    """Return a value without nulls in its objects."""
    if isinstance(value, dict):
        return {key: pruned(part) for key, part in value.items() if part is not None}
    if isinstance(value, float) and math.isnan(value):
        return None
    return [pruned(part) for part in value] if isinstance(value, list) else value


READERS: dict[str, Callable[[Path], Iterator[Row | Broken]]] = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), read_json),
    **dict.fromkeys((".csv", ".tsv"), read_csv),
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
