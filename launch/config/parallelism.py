"""How several processes share a training, as the options `fsdp` and `deepspeed` of Transformers' trainer."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recipes.config import UserError

SHARDED = ("fsdp2", "zero2", "zero3")
STRATEGIES = ("ddp", *SHARDED)
DEEPSPEED = Path(sys.prefix, "deepspeed")  # of `make deepspeed`; in the environment itself TRL would import it


def shared(option: str, strategy: str, offload: bool) -> Any:
    """Return the value of one of the trainer's options `fsdp`, `fsdp_config`, `deepspeed` and `ddp_backend`."""
    options: dict[str, Any] = {"fsdp": strategy == "fsdp2", "fsdp_config": None, "deepspeed": None}
    options["ddp_backend"] = None
    if strategy == "fsdp2" and offload:
        options["fsdp_config"] = {"cpu_offload": True}
        options["ddp_backend"] = "cuda:nccl,cpu:gloo"  # the gradients' norm is summed on the device that holds them
    if strategy in ("zero2", "zero3"):
        options["deepspeed"] = deepspeed(int(strategy[-1]), offload)
    return options[option]


def check_installed(strategy: str) -> None:
    """Reject DeepSpeed where it is not installed; composing and planning do not need it.

    Raises:
        UserError: DeepSpeed is missing; the message says how to install it.
    """
    if strategy.startswith("zero") and not DEEPSPEED.is_dir() and find_spec("deepspeed") is None:
        raise UserError(
            f"hardware.strategy={strategy} needs DeepSpeed, which is not installed: run `make deepspeed`, or use "
            "hardware.strategy=fsdp2"
        )


def with_deepspeed(environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` with DeepSpeed's directory on the path, for a stage that needs it."""
    paths = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    return environment | {"PYTHONPATH": os.pathsep.join([*paths, str(DEEPSPEED)])}


def deepspeed(stage: int, offload: bool) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a stage of ZeRO; `auto` is filled in from the trainer's own options.

    ZeRO-3 saves the whole model too. An offloaded optimizer is PyTorch's, since DeepSpeed's would have to be compiled.
    """
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if offload:
        zero |= {"offload_optimizer": {"device": "cpu"}, **({"offload_param": {"device": "cpu"}} if stage == 3 else {})}
    batch = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    own_optimiser = {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    return {"zero_optimization": zero, "bf16": {"enabled": "auto"}, **dict.fromkeys(batch, "auto"), **own_optimiser}
