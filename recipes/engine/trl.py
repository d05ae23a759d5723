"""What we ask of TRL beyond its documentation."""

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer

from recipes.methods import Method


def rename_metrics(logs: dict[str, float], trainer: Any, method: Method) -> None:
    """Say in the names of TRL's metrics what they are, in `logs` and in what TRL will add to it.

    TRL's DPO and ORPO log different quantities under one name; a chart would lay them over each other.
    """
    stored = trainer._stored_metrics if hasattr(trainer, "_stored_metrics") else trainer._metrics
    reward = "reference" if method.reference_passes else "scaled"  # beta times a log-ratio, or times the log-prob
    names = {"logps/": f"logps_{method.log_probs}/", "rewards/": f"rewards_{reward}/"}
    for metrics in (logs, *stored.values()):
        for key in list(metrics):
            for name, other in names.items():
                if key.removeprefix("eval_").startswith(name):
                    metrics[key.replace(name, other, 1)] = metrics.pop(key)


def cast_by_trl(trainer: Trainer) -> bool:
    """Whether TRL's ORPO has cast a quantised model to bf16, and means to compute under autocast."""
    return getattr(trainer, "_peft_has_been_casted_to_bf16", False)


def keep_outputs_in_float32(args: Any) -> None:
    """Undo Accelerate's cast of all outputs to bf16 under FSDP2, before any model is sharded.

    A loss of bf16 logits or log-probs keeps three digits: DPO's first was 0.6914 instead of ln 2.
    """
    if args.fsdp_plugin_args and args.bf16:
        half = torch.bfloat16
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=half, output_dtype=torch.float32)
        args.fsdp_plugin_args["mixed_precision_policy"] = policy


def count_batches(trainer: Any, meter: Any) -> None:
    """Put a meter around the trainer's collator, which counts what it collates; RLOO counts what it samples itself."""
    trainer.data_collator = meter
    trainer.meter = meter


def forgive_trackers(trainer: Trainer) -> None:
    """Let a tracker that fails fall silent: the training goes on, and so do its own files."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("transformers.integrations"):
            for name in (name for name in dir(callback) if name.startswith("on_")):
                setattr(callback, name, forgiving(getattr(callback, name)))


def forgiving(report: Callable[..., None]) -> Callable[..., None]:
    """Return a tracker's method that prints what it would raise."""

    def attempt(*arguments: Any, **options: Any) -> None:
        try:
            report(*arguments, **options)
        except Exception as error:
            print(f"{report.__qualname__} failed, the training goes on: {error}", flush=True)

    return attempt


def train_adapters_in_float32(trainer: Trainer) -> None:
    """Undo TRL's cast of QLoRA adapters to bf16, in which an update of 1e-6 rounds to nothing."""
    assert trainer.model is not None
    if hasattr(trainer.model, "peft_config"):
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
