"""Sources of pairs: a user's file, the Hub, or the embedded world; all read with `datasets`."""

import glob
import gzip
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets import Dataset as Rows
from datasets import config, load_dataset

from pocket.pairs import write_pairs
from recipes.config import UserError
from recipes.data.schemas import COLUMNS, SHP, Malformed, Unusable, read_pair
from recipes.profiles import TEST, VALIDATION, Dataset
from recipes.system.hub import reachable

BUILDERS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}


def load_source(dataset: Dataset, train_only: bool = False) -> dict[str, Rows]:
    """Return the source's rows: split `train` and, if it has them and `train_only` is false, `test` and `validation`.

    Raises:
        UserError: a file is missing, empty or unreadable, or the Hub is unreachable.
    """
    if dataset.path == "pocket":
        return {split: rows for split, rows in load_pocket().items() if split == "train" or not train_only}
    splits = {"train": (dataset.path, dataset.train_split)}
    if (dataset.test_path or dataset.test_split) and not train_only:
        splits["test"] = (dataset.test_path or dataset.path, dataset.test_split or "train")
    return {name: only_pairs(load(path, split, dataset), path, dataset) for name, (path, split) in splits.items()}


def load_pocket() -> dict[str, Rows]:
    """Write the embedded world's pairs to files and read these like a user's."""
    with tempfile.TemporaryDirectory() as directory:
        write_pairs(Path(directory))
        return {
            split: Rows.from_list(load_file(Path(directory, f"{split}.jsonl")).to_list())
            for split in ("train", TEST, VALIDATION)
        }


def load(path: str, split: str, dataset: Dataset) -> Rows:
    """Return one split of a file or of a Hub data set."""
    length = stream_length(dataset) if dataset.streaming else None
    if is_file(path):
        return load_file(Path(path).expanduser(), length, columns_of(dataset))
    if not reachable():
        config.HF_HUB_OFFLINE = True  # use only what was downloaded before
    options: Any = {"name": dataset.config, "split": split, "revision": dataset.revision}
    options["streaming"] = bool(length)
    try:
        return take(load_dataset(path, **options), length, columns_of(dataset))
    except Exception as error:  # datasets, the Hub's client and fsspec raise different errors
        raise UserError(
            f"dataset {path} is not in the local cache and could not be downloaded ({first_line(error)}): run "
            f"`hf download --repo-type dataset {path}` on a machine with a network, or use dataset=file "
            "dataset.path=<local file>"
        ) from None


def stream_length(dataset: Dataset) -> int:
    """Return how many rows to read from a streamed data set.

    Raises:
        UserError: the number is not given.
    """
    if dataset.train_rows is None:
        raise UserError(
            "dataset.streaming=true needs dataset.train_rows=<rows to read>: a stream may not end, and "
            "its rows are tokenized once and kept for every method"
        )
    return dataset.train_rows


def columns_of(dataset: Dataset) -> set[str]:
    """Return the columns that are read where they exist: those of a pair, and the one that names its cluster."""
    return {*COLUMNS, *([dataset.cluster] if dataset.cluster else [])}


def take(rows: Any, count: int | None, columns: set[str]) -> Rows:
    """Return all rows of a data set, or the first `count` of a stream; of a stream, keep only the columns of a pair."""
    if count is None:
        return rows
    return Rows.from_list([{key: row[key] for key in row if key in columns} for row in rows.take(count)])


def is_file(path: str) -> bool:
    """Whether a dataset's path is meant as a file: by its ending, or because it exists."""
    return file_ending(path) in BUILDERS or Path(path).expanduser().exists()


def file_ending(path: str) -> str:
    """Return a file's ending; for a gzipped file, that of its content."""
    return Path(path.removesuffix(".gz")).suffix.lower()


def load_file(path: Path, length: int | None = None, columns: Iterable[str] = COLUMNS) -> Rows:
    """Read one local file; with `length`, as a stream of that many rows.

    Raises:
        UserError: it is missing, empty, of an unknown kind, or cannot be parsed (with the line).
    """
    builder = BUILDERS.get(file_ending(str(path)))
    if not path.exists():
        raise UserError(f"{path} does not exist: check dataset.path (relative to {Path.cwd()})")
    if builder is None or path.is_dir():
        raise UserError(f"{path} has no supported format: use {', '.join(BUILDERS)} (JSON and CSV also with .gz)")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: give a file with one preference pair per row")
    try:
        options: Any = {"data_files": glob.escape(str(path)), "split": "train", "streaming": bool(length)}
        if builder == "csv":
            options["keep_default_na"] = False  # "None" and "NA" are valid responses
        rows = take(load_dataset(builder, **options), length, {*columns})
    except Exception as error:
        if builder == "json":
            with suppress(OSError, EOFError, zlib.error):  # a damaged archive has no lines
                find_broken_line(path)
        raise UserError(f"{path} cannot be read as {builder} ({first_line(error.__cause__ or error)})") from None
    if not len(rows):
        raise UserError(f"{path} has no rows: give a file with one preference pair per row")
    return rows


def only_pairs(rows: Rows, path: str, dataset: Dataset) -> Rows:
    """Keep the columns of a pair.

    Raises:
        UserError: `chosen` or `rejected` is missing, or the column that names clusters.
    """
    if dataset.cluster and dataset.cluster not in rows.column_names:
        raise UserError(
            f"{path} has no column {dataset.cluster!r}, which dataset.cluster names; its columns are "
            f"{', '.join(rows.column_names)}"
        )
    missing = [column for column in ("chosen", "rejected") if column not in rows.column_names]
    if missing and not set(rows.column_names) >= SHP:
        raise UserError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}; its columns are "
            f"{', '.join(rows.column_names)}: rename them to prompt, chosen, rejected"
        )
    return rows.select_columns([column for column in rows.column_names if column in columns_of(dataset)])


def find_broken_line(path: Path) -> None:
    """Raise a UserError that names the first line of a JSON file that is no preference pair, if there is one."""
    for number, text in json_lines(path):
        try:
            row = json.loads(text)
            if not isinstance(row, dict):
                raise Malformed(f"is {type(row).__name__}, not an object with chosen and rejected")
            read_pair(row)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} line {number} is not JSON ({error}): fix or remove it") from None
        except Malformed as error:
            raise UserError(f"{path} line {number} {error}") from None
        except Unusable:
            continue


def json_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a JSON Lines file, or the whole of a file that is one JSON array."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        first = file.read(1)
        file.seek(0)
        if first == "[":
            yield 1, file.read()
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def first_line(error: BaseException) -> str:
    """Return an exception's first line, cut to what fits a terminal."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
