"""Answers to held-out prompts, from the very prompt ids that the model was trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from eval.likelihood import TOKENS, by_length


@dataclass
class Answer:
    """One answer: its text, its tokens without the stop, and whether it stopped by itself."""

    text: str
    tokens: int
    stopped: bool


@torch.inference_mode()
def answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    stops: list[int],
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    advance: Callable[[int], None],
) -> list[Answer]:
    """Answer every prompt once; temperature 0 is greedy. Sampling is from the full distribution, seeded.

    `stops` are the ids that end an answer. Batched by length with padding on the left; `advance` is told how
    many prompts were answered.
    """
    torch.manual_seed(seed)
    model.generation_config = GenerationConfig()  # generate() fills what we leave open from the model's own settings
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
        **(
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature
            else {"do_sample": False}
        ),
    )
    result: list[Answer | None] = [None] * len(prompts)
    for batch in by_length([len(ids) + max_new_tokens for ids in prompts], TOKENS):
        width = max(len(prompts[index]) for index in batch)
        padding = [[tokenizer.pad_token_id] * (width - len(prompts[index])) for index in batch]
        ids = torch.tensor([pad + prompts[index] for pad, index in zip(padding, batch, strict=True)])
        mask = torch.tensor([[0] * len(pad) + [1] * (width - len(pad)) for pad in padding])
        output = model.generate(ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config)
        for index, row in zip(batch, output[:, width:].tolist(), strict=True):
            result[index] = cut(row, stops, tokenizer)
        advance(len(batch))
    return [answer for answer in result if answer is not None]


def cut(ids: list[int], stops: list[int], tokenizer: PreTrainedTokenizerBase) -> Answer:
    """Return generated ids up to their first stop token."""
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    return Answer(str(text), len(ids) if end is None else end, end is not None)
