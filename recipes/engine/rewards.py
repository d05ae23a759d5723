"""Rewards of selected tokens inside a classifier's forward pass, without a score of every position."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from recipes.engine.forward import add_packed_forward


def add_rewards(model: PreTrainedModel) -> None:
    """Let a classifier of one output, called with `scored=places`, return the rewards (S,) of these positions."""
    add_packed_forward(model, rewards)


def rewards(model: Any, states: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the head's output (S,) for `states` (S, hidden), in float32 at least.

    The head is called as a module, so that an adapter on it counts, and outside of autocast, whose bf16 would leave a
    reward three digits. One number per response costs nothing in float32.
    """
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    with torch.autocast(states.device.type, enabled=False):
        found = model.score(states)[:, 0]
    return found.to(states.dtype)
