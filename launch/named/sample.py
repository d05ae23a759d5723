"""The first rows of local files and how many rows there are, read without the `datasets` library."""

import csv
import glob
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

ROWS = 200  # read at most
LARGE = 2**26  # bytes; the rows of a larger file are estimated from its beginning
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")  # of a data set with its configuration, such as org/name:config
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")


def matches(name: str) -> list[Path]:
    """Return the file or folder of a name, or those that it finds as a glob."""
    path = Path(name).expanduser()
    return [path] if path.exists() else [*map(Path, glob.glob(str(path), recursive=True))]  # noqa: PTH207 (absolute too)


def files_of(name: str) -> list[Path]:
    """Return the files that a path, a folder or a glob names, in order."""
    inside = [part for path in matches(name) for part in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return sorted(path for path in inside if path.name.lower().removesuffix(".gz").endswith(ENDINGS) and path.is_file())


def sample(name: str) -> tuple[list[dict[str, Any]], int]:
    """Return the first rows and about how many there are; none where a file cannot be read, which is told later."""
    files = files_of(name)
    rows: list[dict[str, Any]] = []
    total = 0
    for path in files[:1]:
        with suppress(Exception):  # whatever a damaged file raises: the launcher's own reading says what is wrong
            rows, total = sample_file(path)
    size = sum(path.stat().st_size for path in files)
    return rows, round(total * size / max(1, files[0].stat().st_size)) if files else 0


def sample_file(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a file's first rows and about how many it has."""
    kind = path.name.lower().removesuffix(".gz")
    if kind.endswith(".parquet"):
        return sample_parquet(path)
    with opened(path) as file:
        rows = read_csv(file) if kind.endswith(".csv") else read_json(file)
        first = list(islice(rows, ROWS))
        if len(first) < ROWS or path.stat().st_size <= LARGE:
            return first, len(first) + sum(1 for _ in rows)
        return first, round(ROWS * path.stat().st_size / max(1, file.tell()))


def opened(path: Path) -> TextIO:
    """Open a text file, compressed or not."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8", errors="replace", newline="")


def read_csv(file: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file, separated as its first line is."""
    head = file.readline()
    file.seek(0)
    separator = max(",;\t", key=head.count)
    yield from csv.DictReader(iter(file.readline, ""), delimiter=separator)


def read_json(file: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON Lines, or of one array."""
    start = file.read(1)
    file.seek(0)
    rows = json.load(file) if start == "[" else map(json.loads, filter(str.strip, iter(file.readline, "")))
    yield from (row for row in rows if isinstance(row, dict))


def sample_parquet(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a Parquet file's first rows and how many it has."""
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(path)
    return next(file.iter_batches(ROWS)).to_pylist(), file.metadata.num_rows
