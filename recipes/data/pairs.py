"""Prepared pairs as the methods see them: all train on views of the same ids.

Nothing here tokenizes, so that a page of old results need not wait for Transformers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset as Rows
from datasets import DatasetDict, disable_caching, disable_progress_bars, load_from_disk

from recipes.config import Stage, UserError
from recipes.data.columns import IDS
from recipes.data.unpaired import with_unpaired
from recipes.methods import METHODS
from recipes.profiles import TEST, VALIDATION


def load_rows(stage: Stage) -> DatasetDict:
    """Return the ids that a stage trains on and is evaluated on, as `load_pairs` does."""
    return load_pairs(stage.pairs, stage.split, stage.demonstrations, METHODS[stage.stage].unpaired)


def load_pairs(
    directory: Path, train: str = "train", demonstrations: Path | None = None, sides: Sequence[str] = ()
) -> DatasetDict:
    """Return the prepared ids, splits `train` and `test`; training rows with `row`, their number in the source.

    Responses without a partner come with the pairs where they are of `sides`; their other side is empty.

    `train` names the split that is trained on: `JUDGE` for the reward model that judges. `test` is what a training is
    evaluated on while it runs, and may choose a checkpoint by: the validation split where there is one. Where there are
    `demonstrations`, a prepared directory, they are trained on instead of pairs; their `rejected_ids` are empty.
    """
    disable_progress_bars()
    disable_caching()  # the views take a second; caching them would fill the shared directory
    rows = open_pairs(directory)
    held_out = with_unpaired(rows, VALIDATION if VALIDATION in rows else TEST, sides)
    trained_on = open_pairs(demonstrations)["train"] if demonstrations else with_unpaired(rows, train, sides)
    views = {"train": trained_on.select_columns(["row", *IDS]), "test": held_out.select_columns([*IDS])}
    return DatasetDict(views)  # type: ignore[arg-type]


def load_prompts(directory: Path) -> DatasetDict:
    """Return the prepared prompts: `prompt`, their ids, and `messages`; training rows with `row`, their number.

    `test` is as in `load_pairs`: the validation split where there is one.
    """
    rows = open_pairs(directory)
    held_out = rows[VALIDATION if VALIDATION in rows else TEST]
    columns = ["prompt", "prompt_ids"]
    views = {"train": rows["train"].select_columns(["row", *columns]), "test": held_out.select_columns(columns)}
    names = {"prompt": "messages", "prompt_ids": "prompt"}
    return DatasetDict({split: view.rename_columns(names) for split, view in views.items()})


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
