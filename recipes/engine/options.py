"""Which of a trainer's options an engine supports; others are rejected before anything is loaded."""

from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Any

from transformers import TrainingArguments

from recipes.methods import ENGINES

# Options besides the trainer's that packed methods support, or that concern the data, prepared before.
HEEDED = {
    "engine",
    "disable_dropout",
    "beta",
    "completion_only_loss",
    "activation_offloading",
    "max_length",
    "precompute_ref_log_probs",
    "precompute_ref_batch_size",
    "truncation_mode",
    "pad_to_multiple_of",
    "pad_token",
    "router_aux_loss_coef",  # to switch it off; a model that has this loss is refused
    "dataset_num_proc",
    "dataset",
}


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Reject a value that an option does not take.

    Raises:
        ValueError: it is none of `allowed`.
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: use {' or '.join(allowed)}")


def check_engine(config: Any, heeded: Collection[str] = ()) -> None:
    """Reject an unknown engine, and TRL's options that the packed engine would ignore.

    The defaults of a recipe's options are what its packed loss computes, but for those `heeded`. All options of
    Transformers' own trainer are supported.

    Raises:
        ValueError: such an option has another value than its default.
    """
    check_choice("engine", config.engine, ENGINES)
    common = {option.name for option in fields(TrainingArguments)}
    for option in fields(config):
        default = option.default_factory() if option.default_factory is not MISSING else option.default
        value = getattr(config, option.name)
        if config.engine == "packed" and option.name not in {*common, *HEEDED, *heeded} and value != default:
            raise ValueError(f"{option.name}={value} needs engine=stock: packed rows are trained with {default}")
