"""Batches of sequences of similar length, with little padding."""

from collections.abc import Iterator
from typing import Any

import torch

TOKENS = 16_384  # of one batch, padding included
MOST = 2**17  # of a batch of responses on a GPU: more rows are hardly faster, and their logits need memory too


def room_for_responses(model: Any) -> int:
    """Return how many tokens a batch of responses may have: on a GPU, keys and values in half of its free memory."""
    if model.device.type != "cuda":
        return TOKENS
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize  # bytes
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return min(MOST, free // 2 // token)


def by_length(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first, each of at most `budget` tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
