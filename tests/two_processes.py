"""Train stage directories one after the other in the same processes: `torchrun tests/two_processes.py DIRECTORY…`."""

import gc
import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from recipes.config import Stage


def main(directories: list[str]) -> None:
    """Train each; what one raises is left in its `error.txt` and does not keep the others from their turn."""
    stages = [Stage.load(Path(directory)) for directory in directories]
    recipes = {stage.stage: import_module(f"recipes.{stage.stage}") for stage in stages}
    if find_spec("deepspeed"):
        deepspeed = import_module("deepspeed")
        # it would compile an operator to sum over processes of a CPU, for a minute: gloo sums
        vars(deepspeed.ops)["__compatible_ops__"] = {}
        # as Accelerate does on a GPU: ZeRO-3 counts the processes while it loads
        deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
    gc.freeze()  # every training collects garbage several times, and would search all that was imported
    for stage in stages:
        try:
            recipes[stage.stage].train(stage)
        except Exception as error:
            traceback.print_exc()
            (stage.directory / "error.txt").write_text(f"{type(error).__name__}: {error}")
        os.environ.pop("ACCELERATE_USE_FSDP", None)  # Accelerate sets it for the rest of a process's life


if __name__ == "__main__":
    main(sys.argv[1:])
