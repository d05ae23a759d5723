"""A model's forward pass over packed pairs: its head at selected positions instead of logits of all."""

import functools
import types
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

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


def logits_of(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Return the logits (S, V) that `model` computes of its last hidden states (S, hidden).

    The model's own code computes them, so that all it does around its head counts, in its own precision. A list of what
    that can be would be wrong without a sign: Granite divides by its `logits_scaling`, HyperCLOVA X multiplies by it,
    and a softcap by a new name would leave the small logits of a self-check as they are.

    That code runs on a copy of the model that has the same modules, but for `Given` in the place of its layers. Nothing
    is changed for others that use the model meanwhile. `forward` is called as a function, since the model's hooks have
    run.
    """
    kind = type(model)
    copy = object.__new__(kind)  # a class that FSDP has made cannot be copied by `copy.copy`
    given = Given(model.base_model)
    copy.__dict__.update(model.__dict__, _modules={**model._modules, model.base_model_prefix: given})
    return kind.forward(copy, inputs_embeds=states[None]).logits[0]


class Outputs(BaseModelOutputWithPast):
    """A model's outputs up to its head; whatever else than states a head reads, such as an image's, is None."""

    def __getattr__(self, name: str) -> None:
        return None


class Given(nn.Module):
    """Stands for a model's layers, and returns the states that they have computed, its `inputs_embeds`."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.__dict__["layers"] = layers  # no submodule

    @property
    def decoder(self) -> nn.Module:
        """What OPT calls of its layers."""
        return self

    def __getattr__(self, name: str) -> Any:
        """Return what else a head reads of its layers, such as Falcon-H1's scale."""
        return getattr(self.layers, name)

    def forward(self, *args: Any, inputs_embeds: Tensor, **options: Any) -> Outputs:
        """Return `inputs_embeds` as the last hidden states."""
        return Outputs(last_hidden_state=inputs_embeds)  # type: ignore[arg-type]
