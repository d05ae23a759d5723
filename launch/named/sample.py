"""The first rows of local files and how many rows there are, read without the `datasets` library."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from recipes.data.files import PATTERN, named
from recipes.data.formats import READERS, Row, read_file

ROWS = 200  # read at most
LARGE = 2**26  # bytes; the rows of a larger file are estimated from its beginning
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")  # of a data set with its configuration, such as org/name:config
ENDINGS = tuple(READERS)


def matches(name: str) -> list[Path]:
    """Return the file or folder of a name, or those that it finds as a pattern."""
    path = Path(name).expanduser()
    return [path] if path.exists() else named(name) if PATTERN.search(name) else []


def sample(files: Sequence[Path]) -> tuple[list[Row], int]:
    """Return the first rows and about how many there are; none where a file cannot be read, which is told later."""
    rows: list[Row] = []
    total = 0
    for path in files[:1]:
        with suppress(Exception):  # whatever a damaged file raises: the launcher's own reading says what is wrong
            rows, total = sample_file(path)
    size = sum(path.stat().st_size for path in files)
    return rows, round(total * size / max(1, files[0].stat().st_size)) if files else 0


def sample_file(path: Path) -> tuple[list[Row], int]:
    """Return a file's first rows and about how many it has."""
    rows = read_file(path)
    first = [row for row in islice(rows, ROWS) if isinstance(row, dict)]
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_metadata

        return first, read_metadata(path).num_rows
    if len(first) < ROWS or path.stat().st_size <= LARGE:
        return first, len(first) + sum(1 for _ in rows)
    size = len(json.dumps(first, ensure_ascii=False).encode())
    return first, round(len(first) * path.stat().st_size / size)
