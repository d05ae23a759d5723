"""`python -m launch.run DIRECTORY`: run the stage of an existing directory with the options in its config.yaml."""

import sys
from pathlib import Path

from launch.stages.digest import Planned
from launch.stages.run import run_stage
from recipes.config import UserError, read_config
from recipes.system.commands import GOES_ON, run_command
from recipes.system.versions import versions


def run(words: list[str]) -> None:
    """Finish the stage in the named directory.

    Raises:
        UserError: no stage is named. UserError, StageFailed, KeyboardInterrupt: as in `launch.stages.run.run_stage`.
    """
    if len(words) != 1:
        raise UserError("give one stage directory: python -m launch.run runs/<model>/<dataset>/<stage>-<digest>")
    directory = Path(words[0])
    config = read_config(directory)
    if "digest" not in config:
        raise UserError(f"{directory} is a base model: give a stage's directory, such as orpo-<digest>")
    run_stage(Planned(directory, config | {"versions": versions()}), directory.name)


if __name__ == "__main__":
    sys.exit(run_command(run, sys.argv[1:], GOES_ON))
