"""`make gpu`: all that only a GPU can show, by priority, within a time limit; the same command resumes.

    make gpu MINUTES=15 PAIRS=pairs.jsonl TOKENIZER=directory

Every measurement runs in its own process under a time limit. Its outcome is written to gpu.json, and to the page
gpu.md, at once. What could not be measured is listed with the reason. The same command keeps measurements and resumes;
on a machine that loses its files, name an --output that is kept, and copy its gpu.json back. Without a GPU it is a dry
run on tiny models.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

from dev.gpu.job import SHARES
from recipes.config import UserError
from recipes.system.commands import output, run_command
from recipes.system.paths import at_home

KEPT = "interrupted; what was measured is kept: run the same command again"


def options(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.gpu", description=__doc__)
    add: Any = parser.add_argument
    add("--minutes", type=float, default=15.0, help="for everything; anything not reached is listed (default: 15)")
    add("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    add("--repeats", type=int, default=1, help="of each speed, each on its own pairs")
    add("--pairs", type=at_home, help="a file of preference pairs, for hh-rlhf's lengths (default: synthetic lengths)")
    add("--tokenizer", type=at_home, help="a directory whose ids the model has")
    add("--output", type=Path, default=Path("docs"), help="where gpu.json, gpu.md, the plot and gpu.log go")
    return parser.parse_args(words)


def refuse(given: argparse.Namespace) -> None:
    """Reject options that could not be measured.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    if not 0 < given.minutes < math.inf:
        raise UserError(f"--minutes {given.minutes:g}: a time above 0 is needed")
    if given.repeats < 1:
        raise UserError(f"--repeats {given.repeats}: at least 1 is needed")
    if bool(given.pairs) != bool(given.tokenizer):
        raise UserError("--pairs and --tokenizer go together: a file of preference pairs, and a tokenizer for it")
    if given.pairs and not Path(given.pairs).is_file():
        raise UserError(f"--pairs {given.pairs} is no file")
    if given.tokenizer and not Path(given.tokenizer).is_dir():
        raise UserError(f"--tokenizer {given.tokenizer} is no directory")
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {given.output} cannot be made ({error.strerror}): choose another directory"
        ) from None


def measure(words: list[str]) -> int:
    """Read the command line, then measure; return the exit status: 0, or 1 where a measurement failed.

    Raises:
        UserError: an option is invalid, or this machine cannot be measured.
    """
    started = time.monotonic()
    given = options(words)
    refuse(given)
    from dev.gpu.suite import gpu  # imports that take seconds

    return gpu(given, started)


def main(words: list[str]) -> int:
    """Run the command; return the exit status: 0, 1 where a measurement failed, 2 for wrong input, 130 interrupted."""
    return run_command(measure, words, KEPT, output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
