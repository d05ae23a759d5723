"""How far an unfinished stage came, and the micro-batches and checkpointing that it goes on with."""

from pathlib import Path
from typing import Any

from recipes.config import OUT_OF_MEMORY, SPLIT


def go_on(directory: Path, begun: dict[str, Any], options: dict[str, Any]) -> None:
    """Put the split and checkpointing of an earlier attempt into a stage's options, if that attempt took less memory.

    Only of one that has a checkpoint or ran out of memory: a launch writes the config.yaml of all its stages before it
    trains the first.
    """
    error = directory / "error.txt"
    failed = error.exists() and error.read_text(errors="replace").startswith(OUT_OF_MEMORY)
    if (failed or any(directory.glob("checkpoint-[0-9]*"))) and takes(begun) < takes(options):
        options.update({name: begun[name] for name in (*SPLIT, "activation_checkpointing")})


def takes(options: dict[str, Any]) -> tuple[bool, int]:
    """Return what orders the ways to train a stage by their memory: activation checkpointing, then the micro-batch."""
    return not options["activation_checkpointing"], options["per_device_train_batch_size"]
