"""What a loaded model and its batches are to the count of FLOPs (`recipes.training.flops`)."""

import math
from collections.abc import Iterable
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import nn

from recipes.engine.packing import Pair
from recipes.training.flops import Matrices, Reading, causal


def matrices(model: Any) -> Matrices:
    """Return a model's matrices; adapters belong to its body, and what spreads it over processes is looked through.

    A classifier's head is its single output.
    """
    model = extract_model_from_parallel(model)
    output = model.get_output_embeddings()
    output = model.score if output is None else output
    # PEFT keeps the original of a head that trains beside it
    head = list(getattr(output, "modules_to_save", output).parameters())
    looked_up = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    left_out = {id(weight) for weight in (*output.parameters(), *looked_up)}
    body = [weight for weight in model.parameters() if id(weight) not in left_out]
    config = model.config.get_text_config()
    channels = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Matrices(
        *(total(body), total(weight for weight in body if weight.requires_grad)),
        *(total(head), total(weight for weight in head if weight.requires_grad)),
        attention=config.num_hidden_layers * config.num_attention_heads * channels,
    )


def total(weights: Iterable[Any]) -> int:
    """Return the number of entries of weights."""
    return sum(map(size, weights))


def size(weight: Any) -> int:
    """Return the number of a weight's entries; 4-bit weights store two per byte, and ZeRO-3 shards them."""
    if hasattr(weight, "quant_state"):
        return math.prod(weight.quant_state.shape)
    return getattr(weight, "ds_numel", weight.numel())


def reading(batch: dict[str, Any], nll_span: str) -> Reading:
    """Return what the policy's forward pass reads of a batch; TRL's own computes the logits of every position."""
    if "pairs" in batch:
        return packed(batch["pairs"], nll_span)
    if "chosen_input_ids" in batch:  # TRL's ORPO and CPO pad both responses to the longer of the two
        masks = [batch["chosen_attention_mask"], batch["rejected_attention_mask"]]
        return padded(sum(len(mask) for mask in masks), max(mask.shape[1] for mask in masks))
    if "attention_mask" not in batch and "position_ids" in batch:  # sequences one after the other on a row
        tokens = batch["input_ids"].numel()
        return Reading(tokens, tokens, int((batch["position_ids"] + 1).sum()))
    return padded(*batch["input_ids"].shape)


def packed(pairs: list[Pair], nll_span: str) -> Reading:
    """Return what a packed row reads: each prompt once, and logits of the scored places alone."""
    tokens = scored = attended = 0.0
    for pair in pairs:
        prompt, chosen, rejected = len(pair.prompt), len(pair.chosen), len(pair.rejected)
        tokens += pair.tokens
        scored += scored_of(prompt, chosen, rejected, nll_span)
        attended += causal(prompt + chosen) + causal(prompt + rejected) - causal(prompt)
    return Reading(tokens, scored, attended)


def scored_of(prompt: int, chosen: int, rejected: int, nll_span: str) -> int:
    """Return the positions of a packed pair of these lengths that a head sees, see `recipes.engine.packing.pack`."""
    if nll_span == "last":
        return 2
    # nothing predicts the first token of a dialogue
    found = chosen + rejected - (prompt == 0) * (bool(chosen) + bool(rejected))
    return found + (max(prompt - 1, 0) if nll_span == "full" else 0)


def padded(rows: int, width: int) -> Reading:
    """Return what a batch of rows of one width reads."""
    return Reading(rows * width, rows * width, rows * causal(width))
