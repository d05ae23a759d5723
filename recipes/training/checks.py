"""Checks that turn silent failures into errors, each as early as it can be detected."""

import math
from collections.abc import Callable
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
from recipes.data.unpaired import has_unpaired
from recipes.engine.dpo_losses import first_loss
from recipes.methods import METHODS
from recipes.training.model import check_loadable

SHARDING = {"fsdp2": DistributedType.FSDP, "zero2": DistributedType.DEEPSPEED, "zero3": DistributedType.DEEPSPEED}
# Tolerated difference of a first loss from the known one, in float32 or not: the models may use different batches.
CLOSE = {True: 1e-3, False: 0.02}


def check_machine(trainer: Trainer, stage: Stage) -> None:
    """Reject a machine that differs from the hardware profile: training silently on fewer GPUs gives a wrong result.

    Raises:
        UserError: there is no GPU, or it has no bfloat16, or the number of processes or the parallelism differs from
            the profile's.
    """
    found = trainer.args.world_size
    if trainer.args.device.type == "cpu" and not trainer.args.use_cpu:
        raise UserError(
            "the hardware profile has GPUs and PyTorch sees none: check `nvidia-smi`, install PyTorch with CUDA "
            "(WITH_CUDA=1 make environment), or use hardware=cpu"
        )
    if trainer.args.bf16 and trainer.args.device.type == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        raise UserError("this GPU would only emulate bfloat16, slowly: add hardware.bf16=false")
    if trainer.args.n_gpu > 1:
        raise UserError(
            f"one process sees {trainer.args.n_gpu} GPUs and would split its batches over them: use make or "
            "python -m launch, or set CUDA_VISIBLE_DEVICES to one"
        )
    if found != stage.processes:
        raise UserError(
            f"{found} processes train, but the hardware profile has {stage.processes}: use make or python -m launch"
        )
    kind, wanted = trainer.accelerator.distributed_type, SHARDING.get(stage.strategy)
    if kind != wanted and (wanted or kind in SHARDING.values()):
        raise UserError(
            f"hardware.strategy={stage.strategy} is set, but Accelerate would run {kind.value}: choose another "
            "strategy, or start the launcher without `accelerate` and without ACCELERATE_ variables"
        )


class Alarms(TrainerCallback):
    """Checks a training as it begins, and its first optimizer step."""

    def __init__(self, trainer: Trainer, stage: Stage) -> None:
        self.trainer = trainer
        self.stage = stage

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Check what was resumed, and watch the model's outputs.

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
        """Check the first step's loss, and under DeepSpeed, which steps before we can check, the gradient.

        Raises:
            UserError: one of them is wrong.
        """
        if not math.isfinite((logs or {}).get("grad_norm", 0.0)):
            raise UserError(
                f"the gradient is not finite at optimizer step {state.global_step}: lower the learning rate"
            )
        stage = self.stage
        if state.global_step == 1 and logs and "loss" in logs and stage.stage in FIRST_LOSS:
            exact = not args.bf16 and stage.model_options["dtype"] == "float32"
            check_first_loss(stage.stage, args, logs["loss"], exact, unpaired=has_unpaired(stage.pairs))


def check_first_loss(method: str, args: Any, loss: float, exact: bool, unpaired: bool = False) -> None:
    """Reject a training that does not begin where it should: there the loss is known.

    A policy equals its reference before the first step, and a reward model's head is zero.

    It is so whatever the pairs, and of `unpaired` responses, whichever an optimizer step has.

    Raises:
        UserError: the loss differs.
    """
    known = FIRST_LOSS[method](args, unpaired)
    if known is None or not args.disable_dropout:
        return
    beta = 0.0 if exact else getattr(args, "beta", 0.0)  # by which rounding of log-probs is multiplied
    if not abs(loss - known) < CLOSE[exact] * max(1.0, abs(known), beta / 0.1):
        why = "the reference model is not the initial checkpoint"
        why = why if METHODS[method].answers else "its head does not start at zero"
        raise UserError(
            f"{METHODS[method].label}'s first loss is {loss:.4f}, not {known:.4f}: {why}; "
            "remove the directories of this stage and of the one before it, and run again"
        )


def of_dpo(args: Any, unpaired: bool) -> float | None:
    """Return the loss of DPO, or of its relatives, before the first step; None if it depends on the data."""
    if args.use_weighting:  # which multiplies each pair's loss
        return None
    options = {name: getattr(args, name) for name in ("beta", "label_smoothing", "discopop_tau")}
    return first_loss(args.loss_type, args.loss_weights or [1.0] * len(args.loss_type), **options)


def of_kto(args: Any, unpaired: bool = False) -> float | None:
    """Return KTO's loss before the first step, where all log-ratios and the reference point are zero.

    None if it depends on the share of good responses.
    """
    if unpaired and args.desirable_weight != args.undesirable_weight:
        return None
    return (args.desirable_weight + args.undesirable_weight) / 4


def of_reward(args: Any, unpaired: bool = False) -> float:
    """Return a reward model's loss before the first step, where all rewards are zero."""
    return math.log(2)


FIRST_LOSS: dict[str, Callable[[Any, bool], float | None]] = {"dpo": of_dpo, "kto": of_kto, "reward": of_reward}


def check_resumed(optimizer: Any, scheduler: Any, step: int) -> None:
    """Reject resuming at optimizer step `step` with a fresh optimizer or schedule, as stock trainers do.

    Raises:
        UserError: one of them is fresh.
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
    """Check the first output that `model` passes to the loss.

    Raises:
        UserError: in the first forward pass, if log-probs or logits are in half precision.
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
    """Read back names and shapes of the saved model: sharded trainers have saved nothing without an error.

    Raises:
        UserError: the model cannot be loaded, or is not the trained one.
    """
    model: Any = trainer.model
    if hasattr(model, "peft_config"):
        wanted = {name: shape_of(weight) for name, weight in get_peft_model_state_dict(model).items()}
        check_shapes(stage.directory / "adapter", wanted)
    elif stage.strategy == "zero3":  # Transformers would shard what it loads over all processes
        check_shapes(stage.output, {name: shape_of(weight) for name, weight in model.named_parameters()})
    else:
        check_loadable(stage.output, stage.stage)


def shape_of(weight: Any) -> list[int]:
    """Return a weight's whole shape, even if ZeRO-3 has sharded it."""
    return list(getattr(weight, "ds_shape", weight.shape))


def check_shapes(directory: Path, wanted: dict[str, list[int]]) -> None:
    """Compare names and shapes with those in the headers of a directory's files.

    Raises:
        UserError: a weight is missing, or has another shape.
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
