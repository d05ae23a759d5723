"""Whether TRL takes a stage's options: asked before anything trains, not when the stage's turn comes."""

from pathlib import Path
from typing import Any

from recipes.config import Stage
from recipes.trainers import DPOConfig, ORPOConfig, SFTConfig
from recipes.training.loop import arguments
from recipes.training.model import peft_config

CONFIGS: dict[str, Any] = {"sft": SFTConfig, "dpo": DPOConfig, "orpo": ORPOConfig}
# The launcher asks, and must neither open a GPU nor wait for other processes.
ALONE = {"use_cpu": True, "fsdp": None, "fsdp_config": None, "deepspeed": None, "ddp_backend": None}


def check(directory: Path) -> None:
    """Build one stage's arguments.

    Raises:
        UserError: TRL or Transformers refuses an option's value.
    """
    stage = Stage.load(directory)
    stage.options |= ALONE
    arguments(CONFIGS.get(stage.stage) or rlhf_config(stage.stage), stage)
    peft_config(stage)


def rlhf_config(stage: str) -> Any:
    """Return the options' class of RLHF's stages, whose trainers no other pipeline should wait for."""
    from recipes.reinforce import RLOOConfig
    from recipes.rewards import RewardConfig

    return {"reward": RewardConfig, "rloo": RLOOConfig}[stage]
