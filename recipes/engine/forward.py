"""A model's forward pass over packed pairs: its head at selected positions instead of logits of all."""

import functools
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from recipes.engine.attention import PAIRS


def add_packed_forward(model: PreTrainedModel, score: Callable[[Any, Tensor, Tensor | None], Tensor]) -> None:
    """Let `model(…, scored=places, targets=ids)` return `score(model, states, targets)` instead of its own outputs.

    The head runs inside the model's own forward pass, where FSDP has gathered its weights and DDP waits for its
    gradients.

    Args:
        model: a model of Transformers; without `scored`, as in generation, its forward pass stays as it is.
        score: called with the last hidden states (S, hidden) at `scored` (S,), and with `targets` (S,) or None.
    """
    original = model.forward

    @functools.wraps(type(model).forward)  # `generate` inspects the signature
    def forward(
        self: PreTrainedModel, *args: Any, scored: Tensor | None = None, targets: Tensor | None = None, **options: Any
    ) -> Any:
        if scored is None:
            return original(*args, **options)
        given = {name: value for name, value in options.items() if value is not None}
        states = self.base_model(*args, **given, use_cache=False).last_hidden_state[0].index_select(0, scored)
        return score(self, states, targets)

    model.forward = types.MethodType(forward, model)
    model.set_attn_implementation(PAIRS)
