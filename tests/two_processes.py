"""Train stage directories one after the other in the same processes: `torchrun tests/two_processes.py DIRECTORY…`."""

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from recipes.config import Stage


def main(directories: list[str]) -> None:
    """Train each; what one raises is left in its `error.txt` and does not keep the others from their turn."""
    for directory in map(Path, directories):
        stage = Stage.load(directory)
        try:
            import_module(f"recipes.{stage.stage}").train(stage)
        except Exception as error:
            traceback.print_exc()
            (directory / "error.txt").write_text(f"{type(error).__name__}: {error}")
        os.environ.pop("ACCELERATE_USE_FSDP", None)  # Accelerate sets it for the rest of a process's life


if __name__ == "__main__":
    main(sys.argv[1:])
