"""Failures that say nothing by themselves, made loud: each is told as soon as it can be seen."""

import math
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from peft import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from recipes.config import Stage, UserError
from recipes.training.model import check_loadable

SHARDING = {"fsdp2": DistributedType.FSDP, "zero2": DistributedType.DEEPSPEED, "zero3": DistributedType.DEEPSPEED}
# How far DPO's first loss may be from ln 2, as policy and reference are computed in other batches: whether in float32.
CLOSE = {True: 1e-3, False: 0.02}


def check_machine(trainer: Trainer, stage: Stage) -> None:
    """Refuse to train on another machine than the hardware profile says; silently fewer GPUs are a wrong result.

    Raises:
        UserError: the number of processes or the kind of parallelism is not the profile's.
    """
    found = trainer.args.world_size
    if found != stage.processes:
        raise UserError(
            f"{found} processes train, but the hardware profile says {stage.processes}: use make or python -m launch"
        )
    kind, wanted = trainer.accelerator.distributed_type, SHARDING.get(stage.strategy)
    if kind != wanted and (wanted or kind in SHARDING.values()):
        raise UserError(
            f"hardware.strategy={stage.strategy} is set, but Accelerate would run {kind.value}: choose another "
            "strategy, or start the launcher without `accelerate` and without ACCELERATE_ variables"
        )


class Alarms(TrainerCallback):
    """Looks at a training as it begins, and at its first update."""

    def __init__(self, trainer: Trainer, stage: Stage) -> None:
        self.trainer = trainer
        self.stage = stage

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Check what was resumed, and watch what the model hands to the loss.

        Raises:
            UserError: see `check_resumed`.
        """
        if state.global_step:
            check_resumed(self.trainer.optimizer, self.trainer.lr_scheduler, state.global_step)
        if args.bf16 and self.trainer.accelerator.distributed_type == DistributedType.FSDP:
            watch_outputs(self.trainer.model)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Check the first update's loss, and the gradient where DeepSpeed updates before anybody can look.

        Raises:
            UserError: one of them cannot be right.
        """
        if not math.isfinite((logs or {}).get("grad_norm", 0.0)):
            raise UserError(
                f"the gradient is not finite at optimizer step {state.global_step}: lower the learning rate"
            )
        if state.global_step == 1 and logs and "loss" in logs and self.stage.stage == "dpo":
            check_first_loss(args, logs["loss"], exact=not args.bf16 and self.stage.model_options["dtype"] == "float32")


def check_first_loss(args: Any, loss: float, exact: bool) -> None:
    """Refuse a DPO whose policy is not its reference before the first update: then its loss is ln 2.

    Raises:
        UserError: it is another one.
    """
    if args.loss_type == ["sigmoid"] and args.disable_dropout and not abs(loss - math.log(2)) < CLOSE[exact]:
        raise UserError(
            f"DPO's first loss is {loss:.4f}, not ln 2 = {math.log(2):.4f}: the reference model is not the initial "
            "checkpoint; remove the directories of this stage and of the one before it, and run again"
        )


def check_resumed(optimizer: Any, scheduler: Any, step: int) -> None:
    """Refuse to go on at update `step` with an optimiser or a schedule that begins anew, as stock trainers do.

    Raises:
        UserError: one of them does.
    """
    plain = getattr(optimizer, "optimizer", optimizer)
    states = list(getattr(plain, "state", {}).values())
    steps = [int(state["step"]) for state in states if "step" in state]
    stateless = isinstance(plain, torch.optim.SGD) and not any(group["momentum"] for group in plain.param_groups)
    lost = isinstance(plain, torch.optim.Optimizer) and not states and not stateless
    if lost or (steps and max(steps) != step) or (isinstance(scheduler, LambdaLR) and scheduler.last_epoch != step):
        raise UserError(
            f"the optimizer state of step {step} was not restored: remove the newest checkpoint of this stage and run "
            "again"
        )


def watch_outputs(model: Any) -> None:
    """Look at the first thing that `model` hands to the loss.

    Raises:
        UserError: in the first forward pass, where log-probs or logits keep three digits.
    """

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        handle.remove()
        found = [output] if isinstance(output, Tensor) else [output.get(name) for name in ("logits", "log_probs")]
        half = [tensor.dtype for tensor in found if tensor is not None and tensor.dtype != torch.float32]
        if half:
            raise UserError(
                f"the loss would be computed from {half[0]} logits, which have three digits: use hardware.bf16=false "
                "or hardware.strategy=ddp"
            )

    handle = model.register_forward_hook(look)


def check_saved(trainer: Trainer, stage: Stage) -> None:
    """Read back the names and shapes of what was saved: sharded trainers have been known to save nothing, and say so.

    Raises:
        UserError: the model cannot be loaded, or is not what was trained.
    """
    model: Any = trainer.model
    if hasattr(model, "peft_config"):
        wanted = {name: shape_of(weight) for name, weight in get_peft_model_state_dict(model).items()}
        check_shapes(stage.directory / "adapter", wanted)
    elif stage.strategy == "zero3":  # Transformers would divide what it loads among all processes
        check_shapes(stage.output, {name: shape_of(weight) for name, weight in model.named_parameters()})
    else:
        check_loadable(stage.output, stage.stage)


def shape_of(weight: Any) -> list[int]:
    """Return a weight's shape, whole where ZeRO-3 has divided it."""
    return list(getattr(weight, "ds_shape", weight.shape))


def check_shapes(directory: Path, wanted: dict[str, list[int]]) -> None:
    """Compare names and shapes with those in the headers of a directory's files.

    Raises:
        UserError: something is missing, or has another shape.
    """
    found: dict[str, list[int]] = {}
    try:
        for file in directory.glob("*.safetensors"):
            with safe_open(file, "pt") as tensors:
                found |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory} was saved and cannot be read ({error}): run again") from None
    odd = [name for name, shape in wanted.items() if found.get(name) != shape]
    if odd:
        raise UserError(f"{directory} was saved incompletely ({odd[0]}, …): run again from the last checkpoint")
