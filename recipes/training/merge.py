"""Merging a trained adapter into its base."""

import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from recipes.config import Stage, UserError, read_json, write_json
from recipes.engine.self_check import some_ids
from recipes.engine.tolerance import evaluating, own_log_probs, tolerance
from recipes.training.errors import report
from recipes.training.model import fit_to_tokenizer, pretrained, save_model
from recipes.training.tokenizer import load_tokenizer

KEPT = "base-log-probs.json"
EXACT = ("float32",)
WRONG = {
    "base": "the model that adapters are merged into is not the base that the adapter was trained on (log-probs differ "
    "by {:.2g}): restore it or remove this stage's directory and train again",
    "merged": "the merged model is not base and adapter together (log-probs differ by {:.2g}): adapters of embeddings "
    "may change the LM head too; choose other model.lora_target_modules",
}
QUANTISED = 1.0  # nats: the effect of 4 bits on a mean log-prob; that of other weights is larger


def merge(directory: Path) -> None:
    """Merge a stage's adapter into its base in the base's own dtype and save a plain model.

    Runs in its own process: merging inside a sharded run is fragile, and a 4-bit base would stay 4-bit.
    """
    stage = Stage.load(directory)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    dtype = stage.model_options["dtype"]
    base = fit_to_tokenizer(pretrained(stage, dtype=dtype), stage.model, tokenizer)
    check_base(base, stage)
    adapted = PeftModel.from_pretrained(base, str(directory / "adapter"))
    before = log_probs_of(adapted)
    merged = adapted.merge_and_unload()
    if before is not None:
        check_same(before, log_probs_of(merged), "merged", tolerated(merged, dtype))
    save_model(merged, tokenizer, stage.output)


def keep_base(model: Any, stage: Stage) -> None:
    """Write the log-probs of a few ids under the adapters' base, for the merge process to compare.

    Raises:
        UserError: an earlier attempt at this stage had another base.
    """
    if not hasattr(model, "peft_config"):
        return
    with model.disable_adapter():
        found = log_probs_of(model)
    file = stage.directory / KEPT
    if found is not None and file.exists():
        check_same(torch.tensor(read_json(file)), found, "base", tolerated(model, stage.model_options["dtype"]))
    elif found is not None:
        write_json(file, found.tolist())


def check_base(base: Any, stage: Stage) -> None:
    """Reject merging into another model than the adapters were trained on.

    Raises:
        UserError: log-probs differ by more than the dtype, or 4 bits, can explain.
    """
    kept, found = stage.directory / KEPT, log_probs_of(base)
    if not kept.exists() or found is None:
        return
    bits = stage.model_options["load_in_4bit"] or stage.model_options["load_in_8bit"]
    may_differ = QUANTISED if bits else tolerated(base, stage.model_options["dtype"])
    check_same(torch.tensor(read_json(kept)), found, "base", may_differ)


def tolerated(model: Any, dtype: str) -> float:
    """Return by how much a model's log-probs may differ between two computations in its dtype."""
    return tolerance(model, [few_ids(model)], half=dtype not in EXACT)


def few_ids(model: Any) -> list[int]:
    """Return the ids by which two models are compared."""
    return some_ids(model.config.get_text_config().vocab_size, 3, 24)


@torch.no_grad()
def log_probs_of(model: Any) -> Tensor | None:
    """Return the log-probs of a few fixed ids; None for a classifier, or if this process lacks some weights."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    if not base.can_generate() or any(weight.is_meta or hasattr(weight, "ds_id") for weight in base.parameters()):
        return None
    ids = torch.tensor([few_ids(base)], device=base.device)
    with evaluating(model):
        return own_log_probs(model, ids).cpu()


def check_same(expected: Tensor, found: Tensor | None, what: str, may_differ: float) -> None:
    """Compare two models by their log-probs.

    Raises:
        UserError: they differ.
    """
    assert found is not None
    apart = (expected - found).abs().mean().item()
    if not apart < may_differ:
        raise UserError(WRONG[what].format(apart))


def main(directory: Path) -> int:
    """Merge in a process of its own; return its exit status, as a training's."""
    try:
        merge(directory)
    except Exception as error:
        return report(error, directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
