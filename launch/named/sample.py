"""The first rows of local files and how many there are, read without libraries that take long to import."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.data.files import files_of, named, read_files
from recipes.data.formats import file_ending

ROWS = 200  # looked at
LARGE = 2**26  # bytes; the rows of larger files are estimated by their size
COMPRESSED = 4  # how many times as large a text is without gzip, about
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")  # of a data set with its configuration, such as org/name:config


def matches(name: str) -> list[Path]:
    """Return the files of a path, a folder or a pattern; none if there is nothing of that name."""
    return [path for path in named(name) if path.exists()]


def sample(name: str, split: str = "train") -> tuple[list[dict[str, Any]], int]:
    """Return the first rows of what a name means and about how many there are, those that cannot be read left out.

    Raises:
        UserError: a file is missing, empty, of an unknown format or cannot be parsed.
    """
    files = files_of(name, split)
    rows = read_files(files)
    first = [row for row in islice(rows, ROWS) if isinstance(row, dict)]
    size = sum(path.stat().st_size * (COMPRESSED if path.suffix == ".gz" else 1) for path in files)
    if size <= LARGE or not first:
        return first, len(first) + sum(isinstance(row, dict) for row in rows)
    return first, counted(files) or round(size * len(first) / sum(len(json.dumps(row, default=str)) for row in first))


def counted(files: list[Path]) -> int | None:
    """Return the number of rows where the files say it themselves, as Parquet does."""
    if any(file_ending(path) != ".parquet" for path in files):
        return None
    from pyarrow.parquet import read_metadata

    return sum(read_metadata(path).num_rows for path in files)
