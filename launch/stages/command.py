"""The commands that train and merge a stage. Pure."""

import sys
from pathlib import Path

from recipes.config import UserError

PATIENCE = 600  # seconds that a stage gets to end by itself: its checkpoint may be large, and the disk slow


def training(stage: str, directory: Path, processes: int, nodes: int = 1, rendezvous: str | None = None) -> list[str]:
    """Return the command that trains a stage: torchrun, or plain Python where there is one process.

    Under torchrun even a single process is wrapped in DDP, which costs a traversal of the graph every update
    and seconds to start. `--standalone` picks a free port, so that jobs do not collide. For several nodes it is
    the same line on each of them, and `rendezvous` (host:port of one of them) is where they meet.

    Raises:
        UserError: there are several nodes, and nobody said where they meet.
    """
    if processes == 1:
        return module(f"recipes.{stage}", directory)
    where = ["--standalone"]
    if nodes > 1:
        if rendezvous is None:
            raise UserError(
                f"hardware.nodes={nodes}: only a cluster's scheduler starts a stage on several machines; "
                "use a profile of one node here"
            )
        meet = ("backend=c10d", f"endpoint={rendezvous}", f"id={directory.name}")
        where = [f"--nnodes={nodes}", *(f"--rdzv-{option}" for option in meet)]
    where += [f"--nproc-per-node={processes // nodes}", f"--shutdown-timeout={PATIENCE}"]
    torchrun = module("torch.distributed.run", *where)
    return [*torchrun, "-m", "recipes.system.processes", f"recipes.{stage}", str(directory)]


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
