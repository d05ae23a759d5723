"""A stage that does not fit is trained again in smaller micro-batches: the same experiment, so the same directory.

Only where the loss of an update does not depend on how it is split: the packed engine, except for ORPO's
`nll_mean=micro_batch`. Elsewhere another micro-batch is another experiment, which is for the user to choose.
"""

from typing import Any

from launch.stages.digest import Planned
from launch.stages.run import SPLIT, OutOfMemory, run_stage, say


def run_as_it_fits(stage: Planned, group: str) -> None:
    """Train a stage, with half the micro-batch whenever memory runs out, from its newest checkpoint.

    Raises:
        OutOfMemory: a single pair is too much, or smaller micro-batches would be another experiment.
        UserError, StageFailed, KeyboardInterrupt: as `launch.stages.run.run_stage`.
    """
    options = stage.config["options"]
    while True:
        try:
            return run_stage(stage, group)
        except OutOfMemory:
            if not splits_alike(options) or options[SPLIT[0]] == 1:
                raise
        halve(options)
        say(f"out of memory: again with micro-batches of {options[SPLIT[0]]}, {options[SPLIT[1]]} to an update")


def splits_alike(options: dict[str, Any]) -> bool:
    """Whether a stage's updates are the same, but for rounding, in whatever micro-batches they are computed."""
    return options.get("engine") == "packed" and options.get("nll_mean") != "micro_batch"


def halve(options: dict[str, Any]) -> None:
    """Take half the micro-batch, or the next smaller one that divides a device's share of an update."""
    share = options[SPLIT[0]] * options[SPLIT[1]]
    smaller = next(size for size in range(options[SPLIT[0]] // 2, 0, -1) if share % size == 0)
    options.update(zip(SPLIT, (smaller, share // smaller), strict=True))
