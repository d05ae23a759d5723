"""The commands that train and merge a stage. Pure."""

import sys
from pathlib import Path


def training(stage: str, directory: Path, processes: int) -> list[str]:
    """Return the command that trains a stage: torchrun, or plain Python where there is one process.

    Under torchrun even a single process is wrapped in DDP, which costs a traversal of the graph every update
    and seconds to start. `--standalone` picks a free port, so that jobs do not collide.
    """
    if processes == 1:
        return module(f"recipes.{stage}", directory)
    torchrun = module("torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    return [*torchrun, "-m", "recipes.process", f"recipes.{stage}", str(directory)]


def module(name: str, *words: object) -> list[str]:
    """Return the command that runs one of our modules in a process of its own."""
    return [sys.executable, "-m", name, *map(str, words)]


def tracking(directory: Path, digest: str, group: str, environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` for one stage: one W&B run a stage, grouped by comparison, resumed when the stage is.

    What the user has set stays.
    """
    defaults = {
        "WANDB_PROJECT": "orpo",
        "WANDB_DIR": str(directory),
        "WANDB_RUN_GROUP": group,
        "WANDB_RUN_ID": digest,
        "WANDB_RESUME": "allow",
        "WANDB_FINISH_TIMEOUT": "60",  # seconds; a server that is gone must not hold up the next stage
        "TOKENIZERS_PARALLELISM": "false",
    }
    return defaults | environment
