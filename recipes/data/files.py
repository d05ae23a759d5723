"""Local files of pairs: which ones a path names, and the rows of all of them.

Files are read anew every time, so what counts is what they hold now: a cache by path and time (as that of `datasets`)
would return yesterday's rows of a file that was replaced with its time kept.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from recipes.data.columns import check_columns
from recipes.data.formats import READERS, Broken, Row, file_ending, read_file
from recipes.profiles import TEST, Dataset
from recipes.system.errors import UserError
from recipes.system.paths import exists, expanded

# The split that a name says: `train_prefs`, `Test`, `testing`, and at its end `pairs.train` or `pairs-test`.
SPLIT = re.compile(r"(.*[-_. ])?(train|test|validation|valid|val|dev|eval)(ing)?(?(1)|([-_]\w+)?)", re.IGNORECASE)
SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+([-_][0-9a-f]+)?)?$")
METADATA = ("dataset_info.json", "dataset_dict.json", "state.json", "config.json")  # beside the shards of a folder
SPREADSHEETS, GZIPPED = (".xlsx", ".xls", ".ods"), "JSON and CSV also with .gz"
HEAD = 100  # rows that are read to find the columns
PATTERN = re.compile(r"[*?\[]")


def is_local(path: str) -> bool:
    """Whether a data set's path means files: by its ending, because it exists, or because it is a pattern."""
    return file_ending(path) in READERS or exists(path) or bool(PATTERN.search(path))


def splits_of(dataset: Dataset, train_only: bool = False) -> dict[str, tuple[str, str]]:
    """Return split -> the path that has it and its name there: `train` and, where there is one, `test`."""
    found = {"train": (dataset.path, dataset.train_split)}
    if dataset.test_path or dataset.test_split:
        found[TEST] = (dataset.test_path or dataset.path, dataset.test_split or "train")
    elif TEST in folder_splits(dataset.path):
        found[TEST] = (dataset.path, TEST)
    return {"train": found["train"]} if train_only else found


def check_source(dataset: Dataset) -> None:
    """Reject local files that are missing, or whose first rows have not the columns of a pair; takes milliseconds.

    Raises:
        UserError: see `files_of`, `read_file` and `check_columns`.
    """
    paths = [(name, "train", None) for name in dataset.sources if expanded(name).is_file()]  # others: profiles
    if dataset.path not in ("pocket", "mixture"):
        paths = [(path, split, dataset.cluster) for path, split in splits_of(dataset).values()]
    for path, split, cluster in paths:
        if is_local(path):
            rows = list(islice(read_files(files_of(path, split)), HEAD))
            columns = dict.fromkeys(name for row in rows if not isinstance(row, Broken) for name in row)
            if columns:
                check_columns(path, columns, cluster)


def files_of(path: str, split: str = "train") -> list[Path]:
    """Return the files that a path names, in order: itself, a folder's shards of `split`, or what a pattern matches.

    Raises:
        UserError: there are none, one has an unknown format or is empty, or a folder has no shards of this split.
    """
    place = expanded(path)
    files = shards(place, split) if place.is_dir() else named(path)
    if not files:
        raise UserError(f"{path} matches no file: check the path (relative to {Path.cwd()})")
    for file in files:
        check_file(file)
    return files


def named(path: str) -> list[Path]:
    """Return the files of a path, whatever their split: itself, a folder's, or what a pattern matches.

    Raises:
        UserError: it is a pattern that cannot be read.
    """
    place = expanded(path)
    if exists(path) and place.is_dir():
        return folder_files(place)
    if exists(path) or not PATTERN.search(path):
        return [place]
    root = Path(place.anchor)
    try:
        return sorted(found for found in root.glob(str(place.relative_to(root))) if found.is_file())
    except ValueError as error:
        raise UserError(f"{path} is no pattern ({error}): for files in folders below write **/*.jsonl") from None


def check_file(path: Path) -> None:
    """Reject a file that cannot hold pairs.

    Raises:
        UserError: it is missing, empty, or of an unknown format.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path (relative to {Path.cwd()})")
    if file_ending(path) not in READERS:
        use = "save it as CSV" if file_ending(path) in SPREADSHEETS else f"use {', '.join(READERS)} ({GZIPPED})"
        raise UserError(f"{path} has no supported format: {use}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: give a file with one row per line")


def shards(folder: Path, split: str) -> list[Path]:
    """Return a folder's files of one split; all of them where no name (`train-00000-of-00002`, `test/`) says a split.

    Raises:
        UserError: there are none of this split.
    """
    files = folder_files(folder)
    splits = folder_splits(str(folder))
    named = {file: split_of(file.relative_to(folder)) for file in files}
    others = "train" if "train" not in splits else None  # beside test.jsonl, pairs.jsonl is what there is to train on
    found = [file for file in files if not splits or (named[file] or others) == split]
    if not files:
        raise UserError(f"{folder} has no file of a supported format: use {', '.join(READERS)}")
    if not found:
        raise UserError(
            f"{folder} has no files of the split {split!r}, but of {', '.join(splits)}: set dataset.train_split and "
            f"dataset.test_split, or name the files: {folder}/*.jsonl"
        )
    return found


def folder_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold rows, in order."""
    hidden = (".", "_")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and file_ending(path) in READERS]
    files = [path for path in files if not (path.suffix == ".arrow" and path.name.startswith("cache-"))]  # of `map`
    names = [path.relative_to(folder).parts for path in files]
    return [
        path
        for path, parts in zip(files, names, strict=True)
        if path.name not in METADATA and not any(part.startswith(hidden) for part in parts)
    ]


def split_of(path: Path) -> str:
    """Return the split that a shard's path names, such as `train` or `test_prefs`; nothing if it names none."""
    whole = path.name.removesuffix(".gz").rpartition(".")[0]
    names = (SHARD.sub("", part) for part in (*path.parts[:-1], whole, path.name.split(".")[0]))
    found = next(filter(None, map(SPLIT.fullmatch, names)), None)
    return f"{found[2]}{found[4] or ''}".lower() if found else ""


def folder_splits(path: str) -> list[str]:
    """Return the splits that the shards of a folder name; none of what is no folder."""
    folder = expanded(path)
    files = folder_files(folder) if folder.is_dir() else []
    return sorted({split_of(file.relative_to(folder)) for file in files} - {""})


def read_files(files: list[Path], length: int | None = None) -> Iterator[Row | Broken]:
    """Yield the rows of files, or the first `length` of them.

    Raises:
        UserError: a file cannot be parsed (with the line where there are lines), or there is no row.
    """
    rows = (row for path in files for row in read_file(path))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{files[0]} has no rows: give a file with one row per line")
    yield first
    yield from islice(rows, length and length - 1)
