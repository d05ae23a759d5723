"""By how much two computations of one model may differ, and a model's own log-probs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

TOLERANCE = {True: 0.1, False: 1e-3}  # tolerated mean difference of scores in half precision, and in float32
ROUNDINGS = 4  # in half precision as many times what padding alone changes: large models have large logits
PADDING = 8  # tokens, at least, behind each dialogue of a batch


def tolerance(model: Any, dialogues: list[list[int]], half: bool) -> float:
    """Return by how much two computations of a model's log-probs may differ, on average; `half`: in half precision."""
    return max(TOLERANCE[half], ROUNDINGS * rounding(model, dialogues)) if half else TOLERANCE[half]


@torch.no_grad()
def rounding(model: Any, dialogues: list[list[int]]) -> float:
    """Return how far log-probs in bf16 move, on average, when dialogues are computed in one batch and not one by one.

    What stands behind a token changes nothing of it but the order in which its sums are rounded.
    """
    device, width = next(base_of(model).parameters()).device, max(map(len, dialogues)) + PADDING
    padded = torch.tensor([ids + ids[:1] * (width - len(ids)) for ids in dialogues], device=device)
    with evaluating(model), torch.autocast(device.type, torch.bfloat16):
        batch = log_softmax(model(input_ids=padded, use_cache=False).logits.float(), -1)
        moved = [
            own_log_probs(model, padded[row : row + 1, : len(ids)])
            - batch[row, : len(ids) - 1].gather(1, padded[row, 1 : len(ids), None])[:, 0]
            for row, ids in enumerate(dialogues)
        ]
    return torch.cat(moved).abs().mean().item()


def own_log_probs(model: Any, ids: Tensor) -> Tensor:
    """Return the log-probs of `ids` (1, T) except the first, from the model's own forward pass."""
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    return log_softmax(logits.float(), -1).gather(1, ids[0, 1:, None])[:, 0]


def base_of(model: Any) -> Any:
    """Return the model that adapters belong to."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch every module to evaluation mode, and back to its own mode: a new adapter and its base may differ."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
