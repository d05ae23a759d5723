"""Attention over packed pairs: each response attends to its prompt and itself, without a mask for the whole row."""

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from recipes.engine.packing import Packing

PAIRS = "packed_pairs"  # its name in Transformers' registry of attention functions
GROUPED = "enable_gqa" in inspect.signature(varlen_attn).parameters  # not in PyTorch 2.11
OWN = ("softcap", "s_aux")  # soft-capped scores and sinks, by Transformers' names: in a model's own code only
FLASH = (8, 0)  # the oldest compute capability that the flash kernel supports, Ampere
DATACENTER = ((8, 0), (9, 0), (10, 0), (10, 3))  # A100, H100, B200, B300: more shared memory


@torch.compiler.disable  # lengths differ from row to row: each would be compiled separately
def pair_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend within each dialogue of a row; under a plain mask (for generation) this is Transformers' own SDPA.

    On GPUs in half precision this is one call of a variable-length flash kernel for all dialogues. It pads nothing and,
    unlike FlexAttention, needs no block mask and no compilation. Elsewhere it is one SDPA call per dialogue, or one of
    the model's own attention if that softcaps its scores or has sinks, which neither kernel knows.

    Args:
        module: the layer, for its number of grouped-query heads.
        query: (1, heads, T, size).
        key: (1, key heads, T, size); `value` too.
        attention_mask: `Packing.mask`, which says where the dialogues are on the row, or one of Transformers'.
        options: Transformers' `scaling`, `dropout` and `sliding_window`.

    Returns:
        (1, T, heads, size).

    Raises:
        NotImplementedError: see `refuse_what_is_left_out`.
    """
    packing: Packing | None = getattr(attention_mask, "packing", None)
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    refuse_what_is_left_out(module, options)
    window, own = options.get("sliding_window"), any(options.get(name) is not None for name in OWN)
    if flash_takes(value) and not own and not options.get("dropout"):
        return varlen_attention(query, key, value, packing, options.get("scaling"), window), None
    attend, kept = (own_attention, OWN) if own else (sdpa_attention_forward, ())
    plain = {name: options[name] for name in ("dropout", "scaling", *kept) if name in options}
    parts = []
    for own_query, own_key, own_value in sequences(query, key, value, packing):
        mask = visible(own_query.shape[2], own_key.shape[2], window, query.device)
        parts.append(attend(module, own_query, own_key, own_value, mask, is_causal=True, **plain)[0])
    return torch.cat(parts, dim=1), None


def own_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, Any]:
    """Attend within one dialogue as the model's own file does without any kernel; all scores are held at once.

    Raises:
        AttributeError: the file has no such function by the name that it has in Transformers.
    """
    eager = sys.modules[type(module).__module__].eager_attention_forward
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    hidden = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    return eager(module, query, key, value, hidden, **options)


def refuse_what_is_left_out(module: nn.Module, options: dict[str, Any]) -> None:
    """Reject a model whose attention has features that are not computed here; `engine.self_check` tells the user why.

    Raises:
        NotImplementedError: it adds a bias to its scores, or passes its sliding window or its chunks only to the mask.
    """
    if options.get("position_bias") is not None:
        raise NotImplementedError("its attention has a position_bias")
    for limit in ("sliding_window", "attention_chunk_size"):
        if getattr(getattr(module, "config", None), limit, None) and limit not in options:
            raise NotImplementedError(f"its attention does not say where its {limit.replace('_', ' ')} applies")


def sequences(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield queries, keys and values of every sequence on the row; rejected responses with their prompts' keys.

    The row is split once: each slice would have a gradient the size of the whole row, nearly all zeros.
    """
    queries, keys, values = (states.split(packing.spans, dim=2) for states in (query, key, value))
    pairs = len(packing.lengths)
    yield from zip(queries[:pairs], keys[:pairs], values[:pairs], strict=True)
    for place, (prompt, _, rejected) in enumerate(packing.lengths):
        if rejected:
            joined = (
                torch.cat([parts[place].narrow(2, 0, prompt), parts[pairs + place]], dim=2) for parts in (keys, values)
            )
            yield (queries[pairs + place], *joined)  # type: ignore[misc]


def visible(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor | None:
    """Return which keys each query sees (bool, (1, 1, queries, keys)); None if plain causal attention is enough.

    The last query is at the last key's position; True means visible.
    """
    if queries == keys and (window is None or keys <= window):
        return None
    mask = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)


def flash_takes(value: Tensor) -> bool:
    """Whether the variable-length flash kernel supports these values, of any shape (..., size).

    In half precision, on Ampere or newer, with heads of a size that is a multiple of 8 up to 256. On consumer GPUs its
    backward pass lacks the memory for sizes from 193 to 224.
    """
    half, size = value.dtype in (torch.bfloat16, torch.float16), value.shape[-1]
    if not (value.is_cuda and half and size % 8 == 0 and size <= 256):
        return False
    capability = torch.cuda.get_device_capability(value.device)
    return capability >= FLASH and (capability in DATACENTER or not 192 < size <= 224)


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None, window: int | None
) -> Tensor:
    """Attend within all dialogues with one flash kernel, whose causal mask is aligned to the last query and key."""
    places, query_starts, key_starts, longest_query, longest_key = packing.varlen(query.device)
    key, value = (states[0].transpose(0, 1).index_select(0, places) for states in (key, value))
    query = query[0].transpose(0, 1).to(value.dtype)  # rotary embeddings return float32 under autocast
    key = key.to(value.dtype)
    groups = query.shape[1] // key.shape[1]
    grouped: dict[str, Any] = {"enable_gqa": groups > 1} if GROUPED else {}
    if groups > 1 and not GROUPED:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    result = varlen_attn(
        query,
        key,
        value,
        query_starts,
        key_starts,
        longest_query,
        longest_key,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        **grouped,
    )
    assert isinstance(result, Tensor)
    return result[None]


AttentionInterface.register(PAIRS, pair_attention)
AttentionMaskInterface.register(PAIRS, sdpa_mask)
