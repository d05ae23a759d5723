"""Which tokens of a row each method trains, and how: read off TRL's own collators on the views that are trained."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset as Rows
from datasets import DatasetDict
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from recipes.data.prepare import demonstration, dialogues
from recipes.data.tokenize import IDS

IGNORED = -100  # a label without a loss


@dataclass(frozen=True)
class Masked:
    """One sequence that a method reads, with its mask."""

    name: str  # the method, and which answer
    ids: list[int]
    likelihood: list[bool]  # trained to become likelier
    compared: list[bool]  # counts for one answer against the other


def masks(row: dict[str, Any], options: dict[str, dict[str, Any]], pad: int) -> list[Masked]:
    """Return the sequences of SFT, DPO and ORPO for a row with ids, under the options of each (TRL's names)."""
    rows = DatasetDict({"train": Rows.from_list([{"row": row["row"], **{name: row[name] for name in IDS}}])})
    return [*sft(rows, options["sft"], pad), *dpo(rows, options["dpo"], pad), *orpo(rows, options["orpo"])]


def sft(rows: DatasetDict, options: dict[str, Any], pad: int) -> list[Masked]:
    """Return SFT's sequence; labels are made of the completion mask as SFTTrainer makes them, then collated."""
    view = demonstration(rows["train"][0])
    if options["completion_only_loss"]:
        pairs = zip(view["input_ids"], view["completion_mask"], strict=True)
        view["labels"] = [token if trained else IGNORED for token, trained in pairs]
    batch = DataCollatorForLanguageModeling(pad)([view])
    return [masked("SFT", batch["input_ids"][0], batch["labels"][0] != IGNORED, None)]


def dpo(rows: DatasetDict, options: dict[str, Any], pad: int) -> list[Masked]:
    """Return DPO's two sequences; its loss may have a likelihood term beside the preference (`loss_type`)."""
    collate = DataCollatorForPreference(pad, options["max_length"], options["truncation_mode"])
    batch = collate([rows["train"][0]])
    losses = options["loss_type"] if isinstance(options["loss_type"], list) else [options["loss_type"]]
    found = []
    for place, answer in enumerate(("chosen", "rejected")):
        real = batch["attention_mask"][place] == 1
        ids, mask = batch["input_ids"][place][real], batch["completion_mask"][place][real] == 1
        likelihood = mask if "sft" in losses and answer == "chosen" else None
        found.append(masked(f"DPO {answer}", ids, likelihood, mask if set(losses) - {"sft"} else None))
    return found


def orpo(rows: DatasetDict, options: dict[str, Any]) -> list[Masked]:
    """Return ORPO's two sequences: the odds ratio covers the labels; the likelihood the chosen dialogue, or its answer.

    `nll_span` says which; stock TRL and the paper's code take the whole dialogue.
    """
    view = dialogues(rows["train"][0])
    found = []
    for answer in ("chosen", "rejected"):
        ids, labels = (torch.tensor(view[f"{answer}_{name}"]) for name in ("input_ids", "labels"))
        trained = labels != IGNORED
        span = trained if options.get("nll_span", "full") == "completion" else torch.ones_like(trained)
        found.append(masked(f"ORPO {answer}", ids, span if answer == "chosen" else None, trained))
    return found


def masked(name: str, ids: torch.Tensor, likelihood: torch.Tensor | None, compared: torch.Tensor | None) -> Masked:
    """Build a sequence; the first token is given to the model, never predicted, so no loss covers it."""

    def flags(mask: torch.Tensor | None) -> list[bool]:
        return [False] * len(ids) if mask is None else [False, *mask.tolist()[1:]]

    return Masked(name, ids.tolist(), flags(likelihood), flags(compared))
