"""`python -m launch.run DIRECTORY`: run the stage of a directory that is there, with the options in its config.yaml."""

import sys
from pathlib import Path

from launch.stages.digest import Planned
from launch.stages.run import StageFailed, console, run_stage
from recipes.config import UserError, read_config
from recipes.system.processes import interrupt_on_signals
from recipes.system.versions import versions


def main(words: list[str]) -> int:
    """Finish the stage in the directory named; return the exit status: 0, 1 crash, 2 wrong input, 130 interrupted."""
    interrupt_on_signals()
    try:
        if len(words) != 1:
            raise UserError("give one stage directory: python -m launch.run runs/<model>/<dataset>/<stage>-<digest>")
        directory = Path(words[0])
        config = read_config(directory)
        if "digest" not in config:
            raise UserError(f"{directory} holds a base model: give the directory of a stage, such as orpo-<digest>")
        run_stage(Planned(directory, config | {"versions": versions()}), directory.name)
    except (UserError, StageFailed, OSError) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 1 if isinstance(error, StageFailed) else 2
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
