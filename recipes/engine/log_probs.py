"""Log-probs of selected tokens inside a model's forward pass, without the logits of all positions."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from recipes.engine.forward import add_packed_forward, logits_of

CHUNK_LOGITS = 2**24  # computed at once: 64 MiB in float32
KEPT_CHUNKS = 8  # of a forward pass, for its backward pass: 512 MiB; the others are computed again


def add_scoring(model: PreTrainedModel) -> None:
    """Let `model(…, scored=places, targets=ids)` return log-probs (S,) of `targets` instead of logits (1, T, V).

    The LM head is called as a module, so that a bias or an adapter on it counts. The logits are computed chunk by
    chunk, in the head's dtype; softmax and log-probs are float32. Unless activations are checkpointed, the first
    `KEPT_CHUNKS` keep what the backward pass needs. The others are computed again there (`torch.utils.checkpoint`): a
    fourth pass over the head beside three. TRL's `add_fused_lm_head` allows one label per position, but two responses
    start after one prompt; it takes the head's weight without its adapter, and without a GPU computes every position.
    The kernels of Liger and cut-cross-entropy return one summed loss, or need Triton.
    """
    score: Any = torch.compiler.disable(log_probs_of)  # else it is compiled anew for each number of chunks
    add_packed_forward(model, score)


def log_probs_of(model: PreTrainedModel, states: Tensor, targets: Tensor | None) -> Tensor:
    """Return the log-prob (S,) of each of `targets` (S,) given a language model's `states` (S, hidden), by chunks."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module) and targets is not None
    chunks = max(1, math.ceil(len(targets) * model.config.get_text_config().vocab_size / CHUNK_LOGITS))
    drops = any(isinstance(module, nn.Dropout) and module.training and module.p for module in head.modules())
    kept = 0 if model.is_activation_checkpointing else KEPT_CHUNKS  # checkpointing: memory is short
    parts = []
    for number, (own, wanted) in enumerate(zip(states.chunk(chunks), targets.chunk(chunks), strict=True)):
        if number < kept:
            parts.append(chunk_log_probs(model, own, wanted))
        else:
            given = (chunk_log_probs, model, own, wanted)
            parts.append(checkpoint(*given, use_reentrant=False, preserve_rng_state=drops))
    return torch.cat(parts)


def chunk_log_probs(model: PreTrainedModel, states: Tensor, targets: Tensor) -> Tensor:
    """Return log-probs in float32 at least, whatever the head's dtype."""
    logits = logits_of(model, states)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -cross_entropy(logits, targets, reduction="none")
