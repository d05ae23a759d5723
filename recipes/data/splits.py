"""Which rows are trained on, and which prompts are held out: to choose by, to evaluate on, for the judge."""

import hashlib
from collections.abc import Sequence

from datasets import Dataset as Rows

from recipes.data.filter import Ruling
from recipes.data.mixture import choose
from recipes.data.unpaired import merged, separated
from recipes.data.values import column, where
from recipes.profiles import JUDGE, TEST, VALIDATION, Dataset

LEAST = 2  # prompts of a held-out split: an interval needs two


def divide(rulings: dict[str, Ruling], dataset: Dataset, parts: Sequence[Dataset]) -> dict[str, Rows]:
    """Return the rows to train, to choose and to evaluate on: after the mixture's choice, held-out prompts and limits.

    Prompts are held out whether or not their responses have partners; for the judge, only with all their pairs.

    Raises:
        UserError: a mixture's source has fewer rows than its count.
    """
    kept = merged({split: ruling.kept.rows for split, ruling in rulings.items()})
    if parts:
        names = [part.name for part in parts]
        kept["train"] = kept["train"].select(choose([*column(kept["train"], "source")], names, dataset))
    if TEST not in kept:
        kept = hold_out(kept, TEST, dataset.test_fraction)
    limits = {"train": dataset.train_rows, TEST: dataset.test_rows, VALIDATION: dataset.test_rows}
    kept = {split: rows.select(range(len(rows))[: limits[split]]) for split, rows in kept.items()}
    if dataset.validation_fraction and VALIDATION not in kept:
        enough = 1.0 if dataset.test_rows is None else dataset.test_rows / max(len(kept["train"]), 1)
        kept = hold_out(kept, VALIDATION, min(dataset.validation_fraction, enough))
    return separated(hold_out(kept, JUDGE, dataset.judge_fraction) if dataset.judge_fraction else kept)


def hold_out(kept: dict[str, Rows], split: str, fraction: float) -> dict[str, Rows]:
    """Take a share of the training *prompts* for another split, the same for every model and run; at least `LEAST`.

    A judge learns from pairs: prompts without any are not held out for it. The least have pairs if any prompt has.
    """
    rows = kept["train"]
    shares = [share_of(key, split) for key in column(rows, "key")]  # equal prompts have equal shares
    paired = {share for share, side in zip(shares, column(rows, "side"), strict=True) if not side}
    able = paired if split == JUDGE else {*shares}
    least = sorted(able, key=lambda share: (share not in paired, share))[:LEAST]
    taken = {share for share in able if share < fraction} | {*least}
    left, held_out = (where((share in taken) is held for share in shares) for held in (False, True))
    return {**kept, "train": rows.select(left), split: rows.select(held_out)}


def too_few(kept: dict[str, Rows]) -> list[str]:
    """Return which splits are too small, and what to do about it.

    With responses without a partner it depends on the method, see `launch.stages.unpaired`.
    """
    together = merged(kept)
    small = {split: len(rows) for split, rows in together.items() if len(rows) < 2}
    if len(together) < len(kept):
        small.pop(JUDGE, None)
    prompts = len({key for rows in kept.values() for key in column(rows, "key")})
    if small and 1 <= prompts <= LEAST:
        have = "all pairs share one prompt" if prompts == 1 else f"the pairs have {prompts} prompts"
        return [
            f"{have}, and prompts, not pairs, are held out: give pairs with other prompts to evaluate on, "
            "dataset.test_path=<file>"
        ]
    options = "see dataset.policies, test_fraction, validation_fraction, train_rows, test_rows, test_path"
    return [
        f"pairs left in the {split} split: {count}, at least 2 needed ({options})" for split, count in small.items()
    ]


def share_of(key: str, split: str) -> float:
    """Return a number in [0, 1) that follows from a prompt's digest; of each split it is another one."""
    digest = key if split == TEST else hashlib.sha256(f"{split} {key}".encode()).hexdigest()
    return int(digest[:16], 16) / 2**64
