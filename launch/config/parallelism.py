"""How several processes share a training, as options of Transformers' trainer: its `fsdp` and `deepspeed`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recipes.config import UserError

SHARDED = ("fsdp2", "zero2", "zero3")
STRATEGIES = ("ddp", *SHARDED)
DEEPSPEED = Path(sys.prefix, "deepspeed")  # `make deepspeed`; whoever imports TRL would import it, if it were installed


def shared(option: str, strategy: str, offload: bool) -> Any:
    """Return the value of one of the trainer's options `fsdp`, `fsdp_config`, `deepspeed` and `ddp_backend`."""
    options: dict[str, Any] = {"fsdp": strategy == "fsdp2", "fsdp_config": None, "deepspeed": None}
    options["ddp_backend"] = None
    if strategy == "fsdp2" and offload:
        options["fsdp_config"] = {"cpu_offload": True}
        options["ddp_backend"] = "cuda:nccl,cpu:gloo"  # the gradients' norm is summed where they lie
    if strategy in ("zero2", "zero3"):
        options["deepspeed"] = deepspeed(int(strategy[-1]), offload)
    return options[option]


def check_installed(strategy: str) -> None:
    """Refuse DeepSpeed where there is none; composing and planning do not need it.

    Raises:
        UserError: saying how to get it.
    """
    if strategy.startswith("zero") and not DEEPSPEED.is_dir() and find_spec("deepspeed") is None:
        raise UserError(
            f"hardware.strategy={strategy} needs DeepSpeed, which is not installed: run `make deepspeed`, or use "
            "hardware.strategy=fsdp2"
        )


def with_deepspeed(environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` for a stage that DeepSpeed shares, where it is found."""
    paths = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    return environment | {"PYTHONPATH": os.pathsep.join([*paths, str(DEEPSPEED)])}


def deepspeed(stage: int, offload: bool) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a stage of ZeRO; `auto` is filled in from the trainer's own options.

    The trained model is written whole from stage 3 too. An optimiser on the CPU is PyTorch's own, not DeepSpeed's,
    which would have to be compiled.
    """
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if offload:
        zero |= {"offload_optimizer": {"device": "cpu"}, **({"offload_param": {"device": "cpu"}} if stage == 3 else {})}
    batch = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    own_optimiser = {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    return {"zero_optimization": zero, "bf16": {"enabled": "auto"}, **dict.fromkeys(batch, "auto"), **own_optimiser}
