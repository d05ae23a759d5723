"""The rows of a data set's sources as pairs, whatever their schema, before any of them is tokenized."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset as Rows
from datasets import concatenate_datasets, disable_caching, disable_progress_bars

from recipes.config import UserError
from recipes.data.findings import prompt_key
from recipes.data.schemas import Malformed, Unusable, read_pair
from recipes.data.sources import load_source
from recipes.profiles import Dataset


def read_rows(parts: Sequence[Dataset]) -> dict[str, Rows]:
    """Return the sources' rows as pairs: `source`, `row`, `prompt`, `chosen`, `rejected`, and `problem` with `detail`.

    A mixture holds out prompts by one rule, so its sources' own test splits are not read.

    Raises:
        UserError: the data cannot be read.
    """
    disable_progress_bars()
    disable_caching()
    found: dict[str, list[Rows]] = {}
    for part in parts:
        for split, source in load_source(part, train_only=len(parts) > 1).items():
            columns = {
                "remove_columns": source.column_names,
                "fn_kwargs": {"source": part.name, "cluster": part.cluster},
            }
            try:
                rows = source.map(as_pairs, batched=True, with_indices=True, **columns)
            except UnicodeDecodeError as error:
                raise UserError(f"{part.path} is not UTF-8 ({error}): convert it, for example with iconv") from None
            found.setdefault(split, []).append(rows)
    return {split: concatenate_datasets(rows) for split, rows in found.items()}


def as_pairs(
    columns: dict[str, list[Any]], numbers: list[int], source: str, cluster: str | None = None
) -> dict[str, list[Any]]:
    """Return a batch of source rows as pairs' columns."""
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    named = ((row, number, str(row[cluster]) if cluster else "") for row, number in zip(rows, numbers, strict=True))
    pairs = [as_columns(row, number, source) | {"cluster": name} for row, number, name in named]
    return {name: [pair[name] for pair in pairs] for name in pairs[0]} if pairs else {}


def as_columns(row: dict[str, Any], number: int, source: str) -> dict[str, Any]:
    """Return a source row as a pair's columns; `problem` names what makes it unfit to be rendered."""
    blank = {"source": source, "row": number, "prompt": [], "chosen": "", "rejected": "", "key": "", "tied": False}
    try:
        pair = read_pair(row)
    except Unusable as finding:
        return blank | {"problem": str(finding), "detail": ""}
    except Malformed as error:
        return blank | {"problem": "malformed", "detail": str(error)}
    columns = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "tied": pair.tied}
    return blank | columns | {"key": prompt_key(pair.prompt), "problem": "", "detail": ""}
