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
from datasets import DatasetDict, disable_caching, disable_progress_bars, load_from_disk
from transformers import PreTrainedTokenizerBase

from recipes.config import Stage, UserError, write_json
from recipes.data.filter import Ruling, rule
from recipes.data.mixture import check_shares, choose, tally
from recipes.data.tokenize import IDS, Split, examine
from recipes.profiles import JUDGE, TEST, VALIDATION, Dataset, Model
from recipes.system.files import seal, temporary

LEAST = 2  # prompts of a held-out split: an interval needs two
KEPT = ("source", "row", "cluster", "key", "prompt", "chosen", "rejected", *IDS)


def load_rows(stage: Stage) -> DatasetDict:
    """Return the ids that a stage trains on and is evaluated on, as `load_pairs` does."""
    return load_pairs(stage.pairs, stage.split, stage.demonstrations)


def load_pairs(directory: Path, train: str = "train", demonstrations: Path | None = None) -> DatasetDict:
    """Return the prepared ids, splits `train` and `test`; training rows with `row`, their number in the source.

    `train` names the split that is trained on: `JUDGE` for the reward model that judges. `test` is what a training is
    evaluated on while it runs, and may choose a checkpoint by: the validation split where there is one. Where there are
    `demonstrations`, a prepared directory, they are trained on instead of pairs; their `rejected_ids` are empty.
    """
    disable_progress_bars()
    disable_caching()  # the views take a second; caching them would fill the shared directory
    rows = open_pairs(directory)
    held_out = rows[VALIDATION if VALIDATION in rows else TEST]
    trained_on = open_pairs(demonstrations)["train"] if demonstrations else rows[train]
    views = {"train": trained_on.select_columns(["row", *IDS]), "test": held_out.select_columns([*IDS])}
    return DatasetDict(views)  # type: ignore[arg-type]


def load_prompts(directory: Path) -> DatasetDict:
    """Return the prepared prompts: `prompt`, their ids, and `messages`; training rows with `row`, their number."""
    rows = open_pairs(directory)
    columns = {"train": ["row", "prompt", "prompt_ids"], "test": ["prompt", "prompt_ids"]}
    names = {"prompt": "messages", "prompt_ids": "prompt"}
    return DatasetDict({split: rows[split].select_columns(columns[split]).rename_columns(names) for split in columns})


def open_pairs(directory: Path) -> DatasetDict:
    """Return the prepared pairs with all columns.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        rows = load_from_disk(str(directory))
    except Exception as error:  # datasets and pyarrow raise different errors for each file
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{directory} is missing or damaged ({reason}): remove it and run again") from None
    assert isinstance(rows, DatasetDict)
    return rows


def demonstrations(rows: Rows) -> Rows:
    """Return stock SFT's view of all pairs."""
    return rows.map(demonstration, remove_columns=list(IDS))


def demonstration(row: dict[str, Any]) -> dict[str, Any]:
    """Return stock SFT's view of a pair: prompt and chosen response, with TRL's completion mask."""
    prompt, chosen = row["prompt_ids"], row["chosen_ids"]
    return {"input_ids": prompt + chosen, "completion_mask": [0] * len(prompt) + [1] * len(chosen)}


def comparison(row: dict[str, Any]) -> dict[str, Any]:
    """Return the reward model's view of a pair: both whole dialogues under TRL's names."""
    return {f"{answer}_ids": row["prompt_ids"] + row[f"{answer}_ids"] for answer in ("chosen", "rejected")}


def dialogues(row: dict[str, Any]) -> dict[str, Any]:
    """Return TRL's ORPO's and CPO's view of a pair: both dialogues under their names; labels cover the responses."""
    prompt = row["prompt_ids"]
    columns = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for answer in ("chosen", "rejected"):
        ids = row[f"{answer}_ids"]
        columns[f"{answer}_input_ids"] = prompt + ids
        columns[f"{answer}_attention_mask"] = [1] * len(prompt + ids)
        columns[f"{answer}_labels"] = [-100] * len(prompt) + ids
    return columns


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


def divide(rulings: dict[str, Ruling], dataset: Dataset, parts: Sequence[Dataset]) -> dict[str, Rows]:
    """Return the rows to train, to choose and to evaluate on: after the mixture's choice, held-out prompts and limits.

    Raises:
        UserError: a mixture's source has fewer rows than its count.
    """
    kept = {split: ruling.kept.rows for split, ruling in rulings.items()}
    if parts:
        names = [part.name for part in parts]
        kept["train"] = kept["train"].select(choose(kept["train"]["source"], names, dataset))
    if TEST not in kept:
        kept = hold_out(kept, TEST, dataset.test_fraction)
    limits = {"train": dataset.train_rows, TEST: dataset.test_rows, VALIDATION: dataset.test_rows}
    kept = {split: rows.select(range(len(rows))[: limits[split]]) for split, rows in kept.items()}
    if dataset.validation_fraction and VALIDATION not in kept:
        enough = 1.0 if dataset.test_rows is None else dataset.test_rows / max(len(kept["train"]), 1)
        kept = hold_out(kept, VALIDATION, min(dataset.validation_fraction, enough))
    return hold_out(kept, JUDGE, dataset.judge_fraction) if dataset.judge_fraction else kept


def hold_out(kept: dict[str, Rows], split: str, fraction: float) -> dict[str, Rows]:
    """Take a share of the training *prompts* for another split, the same for every model and run; at least `LEAST`."""
    shares = [share_of(key, split) for key in kept["train"]["key"]]
    lowest = sorted({*shares})[:LEAST]  # equal prompts have equal shares
    taken = [index for index, share in enumerate(shares) if share < fraction or share in lowest]
    left = [index for index, share in enumerate(shares) if share >= fraction and share not in lowest]
    return {**kept, "train": kept["train"].select(left), split: kept["train"].select(taken)}


def too_few(kept: dict[str, Rows]) -> list[str]:
    """Return which splits are too small, and what to do about it."""
    small = {split: len(rows) for split, rows in kept.items() if len(rows) < 2}
    prompts = len({key for rows in kept.values() for key in rows["key"]})
    if small and 1 <= prompts <= LEAST:
        have = "all pairs have one prompt" if prompts == 1 else f"the pairs have {prompts} prompts"
        return [
            f"{have}, and prompts are held out, not pairs: give pairs of other prompts to evaluate on, "
            "dataset.test_path=<file>"
        ]
    options = "see dataset.policies, test_fraction, validation_fraction, train_rows, test_rows, test_path"
    return [
        f"pairs left in the {split} split: {count}, at least 2 needed ({options})" for split, count in small.items()
    ]


def unused(splits: dict[str, Split]) -> list[str]:
    """Return a line that names the columns of text that are not read, if there are any."""
    names = dict.fromkeys(name for split in splits.values() for name in split.rows.unique("unused") if name)
    return [f"columns not used: {', '.join(names)}"] if names else []


def share_of(key: str, split: str) -> float:
    """Return a number in [0, 1) that follows from a prompt's digest; of each split it is another one."""
    digest = key if split == TEST else hashlib.sha256(f"{split} {key}".encode()).hexdigest()
    return int(digest[:16], 16) / 2**64


def store(rows: dict[str, Rows], rulings: dict[str, Ruling], directory: Path, **source: str | None) -> None:
    """Write rows and manifest to a temporary name, then rename, so that concurrent writers do no harm.

    The manifest says their `source`, too.
    """
    unfinished = temporary(directory)
    shutil.rmtree(unfinished, ignore_errors=True)
    DatasetDict(rows).save_to_disk(str(unfinished))  # type: ignore[arg-type]
    manifest = {
        "fingerprint": fingerprint(rows),
        "pairs": {split: len(part) for split, part in rows.items()},
        "sources": {split: tally(part["source"]) for split, part in rows.items()},
        "tokens": {split: {column: sum(map(len, part[column])) for column in IDS} for split, part in rows.items()},
        "attended": {split: attended(part) for split, part in rows.items()},
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


def attended(rows: Rows) -> dict[str, int]:
    """Return the pairs of a query and a key that it sees, summed over prompts, and over dialogues of each response."""
    prompt, chosen, rejected = (np.array([*map(len, rows[column])]) for column in IDS)
    lengths = {"prompt": prompt, "chosen": prompt + chosen, "rejected": prompt + rejected}
    return {name: int((found * (found + 1) // 2).sum()) for name, found in lengths.items()}


def fingerprint(rows: dict[str, Rows]) -> str:
    """Return a digest over all ids of all splits, in order."""
    digest = hashlib.sha256()
    for split in sorted(rows):
        for column in IDS:
            for ids in rows[split].with_format("numpy")[column]:
                digest.update(np.asarray(ids, dtype=np.int64).tobytes() + b"|")
    return digest.hexdigest()[:16]


def reasons(rulings: dict[str, Ruling]) -> str:
    """Return one line that says what was dropped and why."""
    dropped = [found for ruling in rulings.values() for found in ruling.dropped.values()]
    return "dropped: " + (", ".join(f"{found['count']} ({found['reason']})" for found in dropped) or "none")
