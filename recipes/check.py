"""Build the trainer's arguments of several stages and leave: a wrong value is told before anything trains.

`python -m recipes.check DIRECTORY …`; prints the first error in one line and exits with status 2.
"""

import sys
from pathlib import Path

from recipes.config import Stage, UserError
from recipes.fit import arguments
from recipes.trainers import DPOConfig, ORPOConfig, SFTConfig

CONFIGS = {"sft": SFTConfig, "dpo": DPOConfig, "orpo": ORPOConfig}
# What starts or expects other processes, which this one does not have.
SINGLE = {"fsdp": None, "fsdp_config": None, "deepspeed": None}


def check(directory: Path) -> None:
    """Build one stage's arguments.

    Raises:
        UserError: TRL or Transformers refuses an option's value.
    """
    stage = Stage.load(directory)
    stage.options |= SINGLE
    arguments(CONFIGS[stage.stage], stage)


if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            check(Path(name))
    except UserError as error:
        print(error)
        sys.exit(2)
