"""Retry a stage that runs out of memory with smaller micro-batches: the same experiment, in the same directory.

Only where the loss of an optimizer step does not depend on its split: the packed engine, except with ORPO's
`nll_mean=micro_batch`. Elsewhere another micro-batch size is another experiment, which the user must choose.
"""

from typing import Any

from launch.stages.digest import Planned
from launch.stages.run import SPLIT, OutOfMemory, run_stage, say


def run_as_it_fits(stage: Planned, group: str) -> None:
    """Train a stage; when memory runs out, halve the micro-batch and resume from the newest checkpoint.

    Raises:
        OutOfMemory: even a single pair does not fit, or smaller micro-batches would be another experiment.
        UserError, StageFailed, KeyboardInterrupt: as in `launch.stages.run.run_stage`.
    """
    options = stage.config["options"]
    while True:
        try:
            return run_stage(stage, group)
        except OutOfMemory:
            if not splits_alike(options) or options[SPLIT[0]] == 1:
                raise
        halve(options)
        say(f"out of memory: resuming with micro-batches of {options[SPLIT[0]]}, {options[SPLIT[1]]} per step")


def splits_alike(options: dict[str, Any]) -> bool:
    """Whether a stage's optimizer steps are the same, up to rounding, for every size of micro-batch."""
    return options.get("engine") == "packed" and options.get("nll_mean") != "micro_batch"


def halve(options: dict[str, Any]) -> None:
    """Halve the micro-batch, or take the next smaller one that divides a device's share of an optimizer step."""
    share = options[SPLIT[0]] * options[SPLIT[1]]
    smaller = next(size for size in range(options[SPLIT[0]] // 2, 0, -1) if share % size == 0)
    options.update(zip(SPLIT, (smaller, share // smaller), strict=True))
