"""The commands that train and merge a stage. Pure functions."""

import sys
from pathlib import Path

from recipes.config import UserError

PATIENCE = 600  # seconds that a stage has to end by itself: its checkpoint may be large and the disk slow


def training(stage: str, directory: Path, processes: int, nodes: int = 1, rendezvous: str | None = None) -> list[str]:
    """Return the command that trains a stage: torchrun, or plain Python for one process.

    Under torchrun even a single process is wrapped in DDP, which costs a traversal of the graph every optimizer step
    and seconds to start. `--standalone` picks a free port, so that jobs do not collide. With several nodes the same
    command runs on each, and they meet at `rendezvous` (host:port of one of them).

    Raises:
        UserError: there are several nodes and no rendezvous.
    """
    if processes == 1:
        return module(f"recipes.{stage}", directory)
    where = ["--standalone"]
    if nodes > 1:
        if rendezvous is None:
            raise UserError(
                f"hardware.nodes={nodes}: only a cluster's scheduler can start a stage on several machines; "
                "use a profile of one node here"
            )
        meet = ("backend=c10d", f"endpoint={rendezvous}", f"id={directory.name}")
        where = [f"--nnodes={nodes}", *(f"--rdzv-{option}" for option in meet)]
    where += [f"--nproc-per-node={processes // nodes}", f"--shutdown-timeout={PATIENCE}"]
    torchrun = module("torch.distributed.run", *where)
    return [*torchrun, "-m", "recipes.system.processes", f"recipes.{stage}", str(directory)]


def module(name: str, *words: object) -> list[str]:
    """Return the command that runs one of our modules in its own process."""
    return [sys.executable, "-m", name, *map(str, words)]


def tracking(directory: Path, digest: str, group: str, environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` for one stage: where trackers write, and for W&B one run per stage, grouped by comparison.

    Variables that the user has set stay.
    """
    runs = directory.resolve().parents[2]
    defaults = {
        "TENSORBOARD_LOGGING_DIR": str(directory / "tensorboard"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{runs}/_mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": "orpo",
        "TRACKIO_DIR": str(runs / "_trackio"),
        "WANDB_PROJECT": "orpo",
        "WANDB_DIR": str(directory),
        "WANDB_RUN_GROUP": group,
        "WANDB_RUN_ID": digest,
        "WANDB_RESUME": "allow",
        "WANDB_FINISH_TIMEOUT": "60",  # seconds; an unreachable server must not delay the next stage
        "TOKENIZERS_PARALLELISM": "false",
    }
    return defaults | environment
