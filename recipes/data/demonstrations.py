"""Prepare what SFT trains on instead of the pairs: rows with one response."""

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from recipes.config import UserError
from recipes.data.filter import rule
from recipes.data.pairs import open_pairs
from recipes.data.prepare import KEPT, reasons, store, unused
from recipes.data.tokenize import examine
from recipes.data.unpaired import unpaired
from recipes.data.values import column, where
from recipes.profiles import Dataset, Model


def prepare_demonstrations(
    dataset: Dataset,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    say: Callable[[str], None],
    pairs: Path,
) -> None:
    """Read, examine, render and tokenise demonstrations into `directory`, all to train on.

    Those whose prompt is held out of the prepared `pairs`, for the evaluation or the judge, have the finding `leak`.

    Raises:
        UserError: as `prepare`.
    """
    splits = examine(dataset, [dataset], model, tokenizer, say, demonstrations=True)
    trained_on = ("train", unpaired("train"))
    held_out = {
        key for split, rows in open_pairs(pairs).items() if split not in trained_on for key in column(rows, "key")
    }
    splits["train"].findings.add("leak", where(key in held_out for key in column(splits["train"].rows, "key")))
    for line in unused(splits):
        say(line)
    rulings = rule(splits, dataset)
    rows = rulings["train"].kept.rows
    if len(rows) < 2:
        raise UserError(f"sft.dataset: {len(rows)} demonstrations left of {dataset.path}, 2 needed; {reasons(rulings)}")
    whole = {"train": rows.select_columns([*KEPT]).flatten_indices()}
    store(whole, rulings, directory, path=dataset.path, revision=dataset.revision)
