"""Responses without a partner: of each split of pairs a split of its own, `unpaired_train` beside `train`.

Their rows have the columns of pairs; the side that they lack is empty. Methods that compare two responses never see
them: KTO trains on both kinds, SFT on the chosen ones.
"""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset as Rows
from datasets import DatasetDict, concatenate_datasets

from recipes.data.columns import SIDES
from recipes.data.values import column, where

UNPAIRED = "unpaired_"


def unpaired(split: str) -> str:
    """Return the name of the split of responses without a partner that belongs to a split of pairs."""
    return UNPAIRED + split


def called(split: str) -> str:
    """Return in words what a split holds."""
    return f"unpaired {split.removeprefix(UNPAIRED)} responses" if split.startswith(UNPAIRED) else f"{split} pairs"


def apart(splits: dict[str, Rows]) -> dict[str, Rows]:
    """Return read rows with the responses that are `alone` in splits of their own, where there are any."""
    found = {}
    for split, rows in splits.items():
        found[split] = rows
        if alone := where(problem == "alone" for problem in column(rows, "problem")):
            found[split] = rows.select(where(problem != "alone" for problem in column(rows, "problem")))
            found[unpaired(split)] = rows.select(alone).map(lambda row: {"problem": ""}, features=rows.features)
    return found


def parted(splits: dict[str, Rows]) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Return the splits of pairs, and of those that have any, the responses without a partner by the same names."""
    of_pairs = {split: rows for split, rows in splits.items() if not split.startswith(UNPAIRED)}
    return of_pairs, {split: splits[unpaired(split)] for split in of_pairs if unpaired(split) in splits}


def merged(splits: dict[str, Rows]) -> dict[str, Rows]:
    """Return splits with the responses without a partner behind the pairs."""
    of_pairs, single = parted(splits)
    return of_pairs | {split: concatenate_datasets([of_pairs[split], rows]) for split, rows in single.items()}


def separated(splits: dict[str, Rows]) -> dict[str, Rows]:
    """Return the splits of what was `merged`: pairs, and responses without a partner where there are any."""
    found = {}
    for split, rows in splits.items():
        found[split] = rows
        if single := where(column(rows, "side")):
            found[split] = rows.select(where(not side for side in column(rows, "side")))
            found[unpaired(split)] = rows.select(single)
    return found


def has_unpaired(pairs: Path) -> bool:
    """Whether a prepared directory has responses without a partner to train on."""
    return (pairs / unpaired("train")).is_dir()


def with_unpaired(splits: DatasetDict, split: str, sides: Sequence[str] = SIDES) -> Rows:
    """Return the pairs of a split, and behind them the responses without a partner that are of `sides`."""
    if not sides or unpaired(split) not in splits:
        return splits[split]
    single = splits[unpaired(split)]
    flags = zip(*(map(bool, column(single, f"{side}_ids")) for side in sides), strict=True)
    return concatenate_datasets([splits[split], single.select(where(map(any, flags)))])
