"""Retry a stage that runs out of memory with less of it: the same experiment, in the same directory.

First with smaller micro-batches, where the loss of an optimizer step does not depend on its split: the packed engine,
except with ORPO's `nll_mean=micro_batch`. Elsewhere another micro-batch size is another experiment, which the user must
choose. Then with activation checkpointing, which changes no result.
"""

from typing import Any

from launch.stages.digest import Planned
from launch.stages.run import OutOfMemory, run_stage, say
from recipes.config import OUT_OF_MEMORY, SPLIT, splits_alike


def run_as_it_fits(stage: Planned, group: str) -> None:
    """Train a stage; when memory runs out, resume from the newest checkpoint with less.

    Raises:
        OutOfMemory: nothing takes less, or only another experiment does.
        UserError, StageFailed, KeyboardInterrupt: as in `launch.stages.run.run_stage`.
    """
    options = stage.config["options"]
    while True:
        try:
            return run_stage(stage, group)
        except OutOfMemory:
            if splits_alike(options) and options[SPLIT[0]] > 1:
                halve(options)
                how = f"micro-batches of {options[SPLIT[0]]}, {options[SPLIT[1]]} per step"
            elif not options["activation_checkpointing"]:
                options["activation_checkpointing"] = True
                how = "activation checkpointing, which takes a third longer"
            else:
                raise OutOfMemory(nothing_less(options)) from None
        say(f"out of memory: resuming with {how}")


def nothing_less(options: dict[str, Any]) -> str:
    """Return what to change where a stage runs out of memory with all that the launcher may do."""
    pairs = options[SPLIT[0]] // options.get("num_generations", 1)
    smaller = "a smaller hardware.per_device_batch (a different experiment), " if pairs > 1 else ""
    return (
        f"{OUT_OF_MEMORY} with micro-batches of {pairs} and activation checkpointing: use {smaller}tuning=lora, "
        "tuning=qlora, a shorter dataset.max_length, a smaller model or a larger machine"
    )


def halve(options: dict[str, Any]) -> None:
    """Halve the micro-batch, or take the next smaller one that divides a device's share of an optimizer step."""
    share = options[SPLIT[0]] * options[SPLIT[1]]
    smaller = next(size for size in range(options[SPLIT[0]] // 2, 0, -1) if share % size == 0)
    options.update(zip(SPLIT, (smaller, share // smaller), strict=True))
