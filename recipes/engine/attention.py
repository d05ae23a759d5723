"""Attention over packed pairs: each response attends to its prompt and itself, without a mask for the whole row."""

import inspect
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
FLASH = (8, 0)  # the oldest compute capability that the flash kernel supports, Ampere


@torch.compiler.disable  # lengths differ from row to row: each would be compiled separately
def pair_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend within each dialogue of a row; without `packing` (for generation) this is Transformers' own SDPA.

    On GPUs in half precision this is one call of a variable-length flash kernel for all dialogues. It pads nothing and,
    unlike FlexAttention, needs no block mask and no compilation. Elsewhere it is one SDPA call per dialogue.

    Args:
        module: the layer, for its number of grouped-query heads.
        query: (1, heads, T, size).
        key: (1, key heads, T, size); `value` too.
        attention_mask: Transformers', ignored with `packing`.
        packing: where the dialogues are on the row.
        options: Transformers' `scaling`, `dropout` and `sliding_window`.

    Returns:
        (1, T, heads, size).

    Raises:
        NotImplementedError: see `refuse_what_is_left_out`.
    """
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    refuse_what_is_left_out(module, options)
    window = options.get("sliding_window")
    if flash_takes(value) and not options.get("dropout"):
        return varlen_attention(query, key, value, packing, options.get("scaling"), window), None
    plain = {"dropout": options.get("dropout", 0.0), "scaling": options.get("scaling"), "is_causal": True}
    parts = []
    for own_query, own_key, own_value in sequences(query, key, value, packing):
        mask = visible(own_query.shape[2], own_key.shape[2], window, query.device)
        parts.append(sdpa_attention_forward(module, own_query, own_key, own_value, mask, **plain)[0])
    return torch.cat(parts, dim=1), None


def refuse_what_is_left_out(module: nn.Module, options: dict[str, Any]) -> None:
    """Reject a model whose attention has features that are not computed here; `engine.self_check` tells the user why.

    Raises:
        NotImplementedError: it softcaps its scores, adds a bias to them, or passes its sliding window only to the mask.
    """
    for name in ("softcap", "position_bias", "s_aux"):
        if options.get(name) is not None:
            raise NotImplementedError(f"its attention has a {name}")
    if getattr(getattr(module, "config", None), "sliding_window", None) and "sliding_window" not in options:
        raise NotImplementedError("its attention does not say where its sliding window applies")


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

    In half precision, on Ampere or newer, with heads of a size that is a multiple of 8 up to 256.
    """
    half, size = value.dtype in (torch.bfloat16, torch.float16), value.shape[-1]
    fits = half and size % 8 == 0 and size <= 256
    return value.is_cuda and fits and torch.cuda.get_device_capability(value.device) >= FLASH


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
