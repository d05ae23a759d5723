"""Where dialogues lie on a packed row, who sees whom there, and how pairs are dealt out to rows."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from recipes.engine.attention import varlen_attention, visible
from recipes.engine.packing import Packing, Pair, balance


def kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    *longest: int,
    **options: Any,
) -> Tensor:
    """What the documentation of torch's kernel says: causal attention in each sequence, all of them in one row."""
    parts, repeat = [], query.shape[1] // key.shape[1]
    spans = zip(
        *(starts.tolist() for starts in (query_starts, query_starts[1:], key_starts, key_starts[1:])), strict=False
    )
    for first, last, key_first, key_last in spans:
        assert last - first <= longest[0] and key_last - key_first <= longest[1]
        scores = torch.einsum("qhd,khd->hqk", query[first:last], key[key_first:key_last].repeat_interleave(repeat, 1))
        distance = torch.arange(last - first)[:, None] + (key_last - key_first - (last - first))
        distance = distance - torch.arange(key_last - key_first)
        left = options["window_size"][0]
        hidden = (distance < 0) | ((distance > left) if left >= 0 else False)
        weights = (options["scale"] * scores).masked_fill(hidden, -torch.inf).softmax(-1)
        parts.append(torch.einsum("hqk,khd->qhd", weights, value[key_first:key_last].repeat_interleave(repeat, 1)))
    return torch.cat(parts)


def kernel_of_2_11(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *places: Any,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """PyTorch 2.11's: it has no `enable_gqa`, and wants as many key heads as query heads."""
    assert query.shape[1] == key.shape[1] == value.shape[1]
    return kernel(query, key, value, *places, scale=scale, window_size=window_size)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("varlen_attn", [kernel, kernel_of_2_11])
def test_the_variable_length_kernel_gets_the_same_dialogues(
    monkeypatch: pytest.MonkeyPatch, window: int | None, varlen_attn: Callable[..., Tensor]
) -> None:
    """The kernel itself needs a GPU: here its documented meaning, one causal attention a sequence, stands for it."""
    pairs = [Pair([1] * prompt, [1] * chosen, [1] * rejected) for prompt, chosen, rejected in [(5, 3, 9), (2, 8, 1)]]
    packing = Packing(pairs)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, packing.starts[-1], 8, dtype=torch.float64) for heads in (4, 2, 2))

    monkeypatch.setattr("recipes.engine.attention.varlen_attn", varlen_attn)
    monkeypatch.setattr("recipes.engine.attention.GROUPED", varlen_attn is kernel)
    found = varlen_attention(query, key, value, packing, 0.3, window)
    for queries, keys in packing.sequences:
        own_key, own_value = (
            torch.cat([states[:, :, piece] for piece in keys], 2).repeat_interleave(2, 1) for states in (key, value)
        )
        count, total = queries.stop - queries.start, own_key.shape[2]
        mask = visible(count, total, window, query.device)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, queries], own_key, own_value, mask, is_causal=mask is None, scale=0.3
        )
        assert torch.allclose(found[:, queries].transpose(1, 2), expected, rtol=0, atol=1e-12)


def test_balancing_keeps_every_pair_once_and_evens_the_tokens() -> None:
    draw = random.Random(0)
    pairs = [Pair([n] * draw.randint(1, 99), [n] * draw.randint(1, 99), [n]) for n in range(12)]
    dealt = balance([pairs[:4], pairs[4:8], pairs[8:]])
    assert sorted(pair.prompt[0] for part in dealt for pair in part) == list(range(12))
    totals = [sum(pair.tokens for pair in part) for part in dealt]
    assert max(totals) - min(totals) <= max(pair.tokens for pair in pairs)
    sizes = (3, 3, 4, 5, 6, 7)  # dealt as they come, the last one would make it 11 and 17
    small = [Pair([0], [0] * (size - 2), [0]) for size in sizes]
    assert [pair.tokens for pair in small] == [*sizes]
    assert [sum(pair.tokens for pair in part) for part in balance([small[:3], small[3:]])] == [14, 14]
