"""Sources of pairs: a user's files, the Hub, or the embedded world."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset as Rows
from datasets import List, Value, config, load_dataset

from pocket.pairs import write_pairs
from recipes.config import UserError
from recipes.data.columns import (
    DEMONSTRATED,
    JUDGED,
    SIDES,
    check_columns,
    check_demonstrations,
    judged,
    makes_pairs,
    used,
)
from recipes.data.files import files_of, is_local, read_files, splits_of
from recipes.data.formats import Broken, Row, without_nulls
from recipes.profiles import TEST, VALIDATION, Dataset
from recipes.system.hub import reachable


@dataclass(frozen=True)
class Source:
    """The rows of one split of a source, with the columns that are read, and what else it has."""

    rows: Sequence[Row | Broken]
    columns: list[str]  # all of them
    unused: list[str] = field(default_factory=list)  # columns with text or objects that are not read


def load_source(dataset: Dataset, train_only: bool = False, demonstrations: bool = False) -> dict[str, Source]:
    """Return the source's rows: split `train` and, if it has them and `train_only` is false, `test` and `validation`.

    Raises:
        UserError: a file is missing, empty or unreadable, or the Hub is unreachable.
    """
    if dataset.path == "pocket":
        return {split: source for split, source in load_pocket().items() if split == "train" or not train_only}
    splits = splits_of(dataset, train_only)
    return {name: load(path, split, dataset, demonstrations) for name, (path, split) in splits.items()}


def load_pocket() -> dict[str, Source]:
    """Write the embedded world's pairs to files and read these like a user's."""
    with tempfile.TemporaryDirectory() as directory:
        write_pairs(Path(directory))
        return {
            split: load_files(str(Path(directory, f"{split}.jsonl")), columns=[])
            for split in ("train", TEST, VALIDATION)
        }


def load(path: str, split: str, dataset: Dataset, demonstrations: bool = False) -> Source:
    """Return one split of files or of a Hub data set.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    length = stream_length(dataset) if dataset.streaming else None
    more = DEMONSTRATED if demonstrations else [dataset.cluster] if dataset.cluster else []
    if is_local(path):
        source = load_files(path, split, length, more)
    else:
        source = of_hub(load_hub(path, split, dataset, length), more)
    if demonstrations:
        check_demonstrations(path, source.columns)
    else:
        check_columns(path, source.columns, dataset.cluster)
    return source


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


def load_files(path: str, split: str = "train", length: int | None = None, columns: Iterable[str] = ()) -> Source:
    """Read local files: one, a folder's, or what a pattern matches; of each row the columns of a pair, and `columns`.

    Raises:
        UserError: see `recipes.data.files`.
    """
    rows = list(read_files(files_of(path, split), length))
    found = [row for row in rows if not isinstance(row, Broken)]
    names = dict.fromkeys(name for row in found for name in row)
    if isinstance(rows[0], Broken) and not names:
        raise UserError(f"{path} row 1 {rows[0].reason}: give a file of rows")
    unused = {name for row in found for name in row.keys() - read_of(row, columns) if telling(row[name])}
    kept = [row if isinstance(row, Broken) else trimmed(row, columns) for row in rows]
    return Source(kept, list(names), [name for name in names if name in unused])


def read_of(row: Row, columns: Iterable[str]) -> set[str]:
    """Return the columns that are read of a row: those of a pair, and `columns`."""
    return used(name for name, value in row.items() if value is not None) | {*columns}


def trimmed(row: Row, columns: Iterable[str]) -> Row:
    """Return a row with the columns that are read; all of them where it is no pair, for its finding names them."""
    if not makes_pairs(row):
        return row
    wanted = read_of(row, columns) | {*SIDES, *JUDGED.get(judged(row) or "", ())}
    return {name: value for name, value in row.items() if name in wanted}


def telling(value: Any) -> bool:
    """Whether a value is text, of more than one word, or an object: a name, a number or an id tells a model nothing."""
    return " " in value.strip() if isinstance(value, str) else isinstance(value, (list, dict)) and bool(value)


def load_hub(path: str, split: str, dataset: Dataset, length: int | None) -> Any:
    """Return one split of a Hub data set, or the first `length` rows of its stream.

    Raises:
        UserError: it is neither in the local cache nor can it be downloaded.
    """
    if not reachable():
        config.HF_HUB_OFFLINE = True  # use only what was downloaded before
    options: Any = {"name": dataset.config, "split": split, "revision": dataset.revision}
    options |= {"data_dir": dataset.data_dir} if dataset.data_dir else {}
    options["streaming"] = bool(length)
    try:
        rows: Any = load_dataset(path, **options)
        return rows if length is None else Rows.from_list(list(rows.take(length)))
    except Exception as error:  # datasets, the Hub's client and fsspec raise different errors
        said = " ".join(str(error).split())
        if "Config name is missing" in said or "BuilderConfig" in said:
            raise UserError(f"{path}: {said}: name a configuration, DATASET={path}:<configuration>") from None
        if "Unknown split" in said:
            raise UserError(f"{path}: {said}: set dataset.train_split and dataset.test_split") from None
        raise UserError(
            f"dataset {path} is not in the local cache and could not be downloaded ({first_line(error)}): run "
            f"`hf download --repo-type dataset {path}` on a machine with a network, or name a local file"
        ) from None


class Typed(Sequence[Row]):
    """The rows of a table whose columns have types, without the nulls that fill its objects."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return without_nulls(self.rows[place])

    def __iter__(self) -> Iterator[Row]:
        for batch in self.rows.iter(1000):
            columns: dict[str, list[Any]] = dict(batch)  # type: ignore[call-overload]
            for values in zip(*columns.values(), strict=True):
                yield without_nulls(dict(zip(columns, values, strict=True)))


def of_hub(rows: Rows, columns: Iterable[str]) -> Source:
    """Return a Hub data set's rows; text of more than one word is looked for in its first row."""
    names = rows.column_names
    wanted = used(names) | {*columns}
    rest = [name for name in names if name not in wanted]
    texts = [name for name in rest if rows.features[name] == Value("string")]
    first = rows.select_columns(texts)[0] if texts and len(rows) else {}
    objects = [name for name in rest if isinstance(rows.features[name], (dict, List))]
    unused = [name for name in rest if name in objects or telling(first.get(name))]
    return Source(Typed(rows.select_columns([name for name in names if name in wanted])), names, unused)


def first_line(error: BaseException) -> str:
    """Return an exception's first line, cut to what fits a terminal."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
