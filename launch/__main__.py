"""Train the stages of one or several pipelines, evaluate them, and print one table: `python -m launch [WORDS]`."""

import sys

from launch.config.first import first_line
from launch.config.help import helped
from recipes.system.commands import console, run_command


def main(words: list[str]) -> int:
    """Say at once what will run, then run it; return the exit status.

    Raises:
        UserError: a word is rejected, or the configuration cannot be composed.
    """
    if helped(words, __doc__):
        return 0
    if line := first_line(words):
        console.print(line, soft_wrap=True)
    from launch.train import main as train  # takes a second

    return train(words)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
