"""The sampling loop: a batch with a KV cache that rows leave when they end, and random numbers seeded per prompt.

Every response has its own random numbers, one uniform per token, from a counter-based generator (Philox) keyed by a
digest of the prompt's ids, the sample's index and the seed. A token is the inverse of the model's cumulative
distribution at its uniform. So a response depends neither on the other rows of its batch nor on the other prompts,
except for ties within float rounding, which depends on the batch's shape.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from eval.answers.batching import by_length, room_for_responses
from eval.answers.load import context
from eval.answers.store import Sampling, draw_key
from recipes.config import UserError


def uniforms(prompt: list[int], sample: int, seed: int, count: int) -> np.ndarray:
    """Return the random numbers of one response, float64 in [0, 1); a longer `count` only appends to them."""
    return np.random.Generator(np.random.Philox(key=draw_key(prompt, sample, seed))).random(count)


def choose(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Return the next token of each row, shape (rows,): the likeliest at temperature 0, else a sampled one.

    Args:
        logits: of any floating dtype, shape (rows, vocabulary).
        temperature: above 0 it divides the logits; nothing else truncates or reweights the distribution.
        uniform: float64, shape (rows,).
    """
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    # right=True: the first token whose cumulative probability is above the uniform, so none of probability zero.
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(1)
    return drawn.clamp(max=logits.shape[1] - 1)


def decode(
    model: Any, stops: list[int], asked: list[tuple[list[int], int]], sampling: Sampling, budget: int | None = None
) -> Iterator[tuple[int, list[int], bool]]:
    """Respond to prompts, given as ids and sample index; yield index, ids, whether the last of them is a stop.

    Longest prompts first, so that if the first batch fits into memory, the others do too. `budget`: tokens of a batch;
    None: as many as there is room for.

    Raises:
        UserError: a prompt fills the model's context.
    """
    limits = [min(sampling.max_new_tokens, room(model, prompt)) for prompt, _ in asked]
    lengths = [len(prompt) + limit for (prompt, _), limit in zip(asked, limits, strict=True)]
    for batch in by_length(lengths, budget or room_for_responses(model)):
        draws = [uniforms(*asked[place], sampling.seed, sampling.max_new_tokens) for place in batch]
        rows = [asked[place][0] for place in batch], [limits[place] for place in batch], draws
        for row, ids, stopped in decode_batch(model, stops, *rows, sampling.temperature):
            yield batch[row], ids, stopped


def room(model: Any, prompt: list[int]) -> int:
    """Return how many tokens the model's context has left for a response.

    Raises:
        UserError: there is no room for one token.
    """
    left = context(model) - len(prompt)
    if left < 1:
        raise UserError(f"a prompt of {len(prompt)} tokens fills the model's context of {context(model)}: remove it")
    return left


@torch.inference_mode()
def decode_batch(
    model: Any,
    stops: list[int],
    prompts: list[list[int]],
    limits: list[int],
    draws: list[np.ndarray],
    temperature: float,
) -> Iterator[tuple[int, list[int], bool]]:
    """Respond to one batch; yield a row's index, its ids and whether the last is a stop, as soon as it ends."""
    own, row_of = distinct(prompts)
    ids, mask = (tensor.to(model.device) for tensor in left_padded(own))
    ends, most = torch.tensor(stops, device=ids.device), torch.tensor(limits, device=ids.device)
    uniform = torch.tensor(np.array(draws), device=ids.device)
    cache = DynamicCache(config=model.config)
    alive = torch.arange(len(prompts), device=ids.device)
    said: list[list[int]] = [[] for _ in prompts]
    for step in range(max(limits)):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}
        logits = model(**given, past_key_values=cache, use_cache=True).logits[:, -1]
        if step == 0:  # several responses to one prompt: it was read once
            rows = torch.tensor(row_of, device=ids.device)
            cache.batch_select_indices(rows)
            logits, mask = logits[rows], mask[rows]
        tokens = choose(logits, temperature, uniform[alive, step])
        stopped = torch.isin(tokens, ends)
        ended = stopped | (step + 1 == most[alive])
        for row, token, stop, end in zip(*(x.tolist() for x in (alive, tokens, stopped, ended)), strict=True):
            said[row].append(token)
            if end:
                yield row, said[row], stop
        if ended.all():
            return
        if ended.any():
            kept = (~ended).nonzero().squeeze(1)
            cache.batch_select_indices(kept)
            alive, mask, tokens = alive[kept], mask[kept], tokens[kept]
        ids, mask = tokens[:, None], torch.cat([mask, mask.new_ones(len(tokens), 1)], 1)


def distinct(prompts: list[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Return the distinct prompts, and for each prompt the place of its own among them."""
    places: dict[tuple[int, ...], int] = {}
    row_of = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
    return [list(prompt) for prompt in places], row_of


def left_padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return ids and mask of shape (rows, tokens), int64; padding is on the left, of any id, and masked."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask
