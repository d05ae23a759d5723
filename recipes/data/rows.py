"""The rows of a data set's sources as pairs or demonstrations, whatever their schema, before any is tokenized."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from datasets import Dataset as Rows
from datasets import Features, List, Value, concatenate_datasets

from recipes.data.columns import SIDES, judged
from recipes.data.findings import prompt_key
from recipes.data.formats import Broken, Row
from recipes.data.judged import partnered
from recipes.data.messages import Malformed, Message
from recipes.data.schemas import Pair, Unusable, others, read_demonstration, read_pair, read_unpaired
from recipes.data.sources import load_source
from recipes.profiles import Dataset

Read = Callable[[Row], Pair]

TEXT = Value("string")
TURNS = List({"role": TEXT, "content": TEXT})
# `side`: which the response is, of a row with one; `extra`: JSON of what only some templates render (see `fields_of`),
# or nothing; `unused`: columns that are not read.
TEXTS = ("side", "source", "cluster", "chosen", "rejected", "extra", "key", "problem", "detail", "ignored", "unused")
FEATURES = Features(
    {"row": Value("int64"), "prompt": TURNS, "tied": Value("bool"), **dict.fromkeys(TEXTS, TEXT)}  # type: ignore[arg-type]
)
BLANK: dict[str, Any] = {**dict.fromkeys(TEXTS, ""), "prompt": [], "tied": False}


def read_rows(parts: Sequence[Dataset], demonstrations: bool = False) -> dict[str, Rows]:
    """Return the sources' rows as pairs: `source`, `row`, `prompt`, `chosen`, `rejected`, and `problem` with `detail`.

    A response without a partner has the problem `alone`; its `side` is `chosen` or `rejected`, and the other is empty.
    A mixture holds out prompts by one rule, so its sources' own test splits are not read. Of `demonstrations`, which
    have no rejected response, only the training split is.

    Raises:
        UserError: the data cannot be read.
    """
    read = read_demonstration if demonstrations else read_pair
    found: dict[str, list[Rows]] = {}
    for part in parts:
        for split, source in load_source(part, len(parts) > 1 or demonstrations, demonstrations).items():
            more = {"source": part.name, "unused": ", ".join(source.unused)}
            found.setdefault(split, []).append(as_pairs(source.rows, part.cluster, more, read))
    return {split: concatenate_datasets(rows) for split, rows in found.items()}


def as_pairs(rows: Iterable[Row | Broken], cluster: str | None, more: dict[str, Any], read: Read = read_pair) -> Rows:
    """Return a source's rows as pairs; `more` are columns that have one value."""
    numbered = partnered(rows) if read is read_pair else enumerate(rows)
    found = (as_columns(row, cluster, read) | {"row": number} | more for number, row in numbered)
    return Rows.from_list(list(found), features=FEATURES)


def as_columns(row: Row | Broken, cluster: str | None, read: Read) -> dict[str, Any]:
    """Return a source row as a pair's columns; `problem` names what makes it unfit to be rendered."""
    if isinstance(row, Broken):
        return BLANK | {"problem": "malformed", "detail": row.reason}
    named = BLANK | ({"cluster": str(row[cluster])} if cluster and row.get(cluster) is not None else {})
    alone = read is read_pair and judged(row) == "single"
    try:
        pair = read_unpaired(row) if alone else read(row)
    except Unusable as finding:
        return named | {"problem": str(finding)}
    except Malformed as error:
        return named | {"problem": "malformed", "detail": str(error)}
    columns = {"chosen": pair.chosen, "rejected": pair.rejected, "tied": pair.tied, "ignored": "; ".join(pair.ignored)}
    columns["prompt"] = [{"role": turn["role"], "content": turn["content"]} for turn in pair.prompt]
    sides = [side for side in SIDES if columns[side] or side in pair.extra]
    columns |= {"side": "" if len(sides) > 1 else sides[0], "problem": "alone" if alone else ""}
    return named | columns | {"extra": fields_of(pair), "key": prompt_key(pair.prompt, pair.extra.get("tools"))}


def fields_of(pair: Pair) -> str:
    """Return as JSON what a pair has besides roles and texts: `tools`, `chosen`, `rejected`, and `prompt` by turn."""
    turns: list[Message] = [others(turn) for turn in pair.prompt]
    found = pair.extra | ({"prompt": turns} if any(turns) else {})
    return json.dumps(found, default=str) if found else ""
