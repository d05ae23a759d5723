"""One tokenization: pairs are rendered and tokenized once; all methods train on views of the same ids.

`prepare` writes a directory of rows with `prompt_ids`, `chosen_ids` and `rejected_ids` (int lists), named after all its
inputs, so that a sweep tokenizes only once. Rows that a method could not train on are found here, dropped or refused by
policy, counted and named, before any trainer sees them: the same for every method.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset as Rows
from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from recipes.config import UserError, write_json
from recipes.data.columns import IDS, SIDES
from recipes.data.filter import Ruling, rule
from recipes.data.mixture import check_shares, tally
from recipes.data.splits import divide, too_few
from recipes.data.tokenize import Split, examine
from recipes.data.unpaired import parted
from recipes.data.values import column, where
from recipes.profiles import Dataset, Model
from recipes.system.files import seal, temporary

KEPT = ("source", "row", "cluster", "key", "prompt", "chosen", "rejected", *IDS)


def prepare(
    dataset: Dataset,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    say: Callable[[str], None],
    parts: Sequence[Dataset] = (),
) -> None:
    """Read, examine, render and tokenise `dataset`, or the `parts` of a mixture, into `directory`, whole or not at all.

    It also writes `manifest.json`: counts, tokens, dropped rows with reasons (and the first row numbers), and a
    fingerprint of the ids.

    Raises:
        UserError: the data cannot be read, a policy refuses a row, or nothing is left to train on.
    """
    check_shares(dataset)
    splits = examine(dataset, parts or [dataset], model, tokenizer, say)
    for line in unused(splits):
        say(line)
    rulings = rule(splits, dataset)
    kept = divide(rulings, dataset, parts)
    few = too_few(kept)
    if few:
        raise UserError(f"{dataset.path}: {'; '.join(few)}; {reasons(rulings)}")
    store({split: rows.select_columns([*KEPT]).flatten_indices() for split, rows in kept.items()}, rulings, directory)


def unused(splits: dict[str, Split]) -> list[str]:
    """Return a line that names the columns of text that are not read, if there are any."""
    names = dict.fromkeys(name for split in splits.values() for name in split.rows.unique("unused") if name)
    return [f"columns not used: {', '.join(names)}"] if names else []


def store(rows: dict[str, Rows], rulings: dict[str, Ruling], directory: Path, **source: str | None) -> None:
    """Write rows and manifest to a temporary name, then rename, so that concurrent writers do no harm.

    The manifest says their `source`, too.
    """
    unfinished = temporary(directory)
    shutil.rmtree(unfinished, ignore_errors=True)
    shards = {split: None if len(part) else 1 for split, part in rows.items()}  # else none, which could not be read
    DatasetDict(rows).save_to_disk(str(unfinished), num_shards=shards)  # type: ignore[arg-type]
    pairs, single = parted(rows)
    manifest = {
        "fingerprint": fingerprint(rows),
        "pairs": {split: len(part) for split, part in pairs.items()},
        "sources": {split: tally(part["source"]) for split, part in rows.items()},
        "tokens": {split: tokens(part) for split, part in pairs.items()},
        "attended": {split: attended(part) for split, part in pairs.items()},
        **({"unpaired": {split: measured(part) for split, part in single.items()}} if single else {}),
        "dropped": {split: ruling.dropped for split, ruling in rulings.items()},
        "truncated": {split: ruling.truncated for split, ruling in rulings.items()},
        "noted": {split: ruling.noted for split, ruling in rulings.items()},
        **source,
    }
    write_json(unfinished / "manifest.json", manifest)
    seal(unfinished)
    try:
        unfinished.rename(directory)
    except OSError:  # another process was faster and wrote the same content
        shutil.rmtree(unfinished)


def measured(rows: Rows) -> dict[str, Any]:
    """Return numbers, tokens and attention of responses without a partner, the chosen and the rejected ones."""
    found = {side: rows.select(where(column(rows, f"{side}_ids"))) for side in SIDES}
    return {
        side: {"rows": len(part), "tokens": tokens(part), "attended": attended(part)} for side, part in found.items()
    }


def tokens(rows: Rows) -> dict[str, int]:
    """Return the numbers of tokens of prompts, chosen and rejected responses."""
    return {name: sum(map(len, column(rows, name))) for name in IDS}


def attended(rows: Rows) -> dict[str, int]:
    """Return the pairs of a query and a key that it sees, summed over dialogues of each response.

    And over the prompts that two responses share.
    """
    prompt, chosen, rejected = (np.array([*map(len, column(rows, name))], dtype=np.int64) for name in IDS)
    lengths = {"prompt": prompt * (chosen > 0) * (rejected > 0)}
    lengths |= {"chosen": (prompt + chosen) * (chosen > 0), "rejected": (prompt + rejected) * (rejected > 0)}
    return {name: int((found * (found + 1) // 2).sum()) for name, found in lengths.items()}


def fingerprint(rows: dict[str, Rows]) -> str:
    """Return a digest over all ids of all splits, in order."""
    digest = hashlib.sha256()
    for split in sorted(rows):
        for name in IDS:
            for ids in column(rows[split], name):
                digest.update(np.asarray(ids, dtype=np.int64).tobytes() + b"|")
    return digest.hexdigest()[:16]


def reasons(rulings: dict[str, Ruling]) -> str:
    """Return one line that says what was dropped and why."""
    dropped = [found for ruling in rulings.values() for found in ruling.dropped.values()]
    return "dropped: " + (", ".join(f"{found['count']} ({found['reason']})" for found in dropped) or "none")
