"""`make bench`: ours against stock TRL, on the same pairs, in one run; results in docs/bench.json and docs/bench.md.

Every measurement runs in its own process, forked from one that has only imported the libraries; the engines take turns.
Peak memory is the maximum above the idle process, which has imported libraries and loaded the model: allocated on a
GPU, resident on a CPU.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dev.bench.limits import refuse
from dev.bench.shapes import MADE
from recipes.system.commands import output, run_command
from recipes.system.paths import at_home

PARTS = ("engines", "agreement", "pipelines", "tokenise")


def options(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description=__doc__)
    add: Any = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--repeats", type=int, default=3, help="processes for each engine and setting, each on its own pairs")
    add("--batch-sizes", type=int, nargs="+", default=[4, 8, 16], help="pairs; under LoRA the middle one alone")
    add("--lengths", nargs="+", choices=list(MADE), default=list(MADE))
    add("--even", type=int, nargs="*", help="tokens of dialogues that are all as long (default: 128 to the longest)")
    add("--tunings", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    add("--models", nargs="+", help="of dev.bench.shapes.SHAPES (default: 21m, on a GPU phi-3-mini as well)")
    add("--max-length", type=int, help="tokens of a dialogue (default: 1024, on a GPU 2048)")
    add("--pairs", type=at_home, help="a file of preference pairs, for hh-rlhf (default: made lengths)")
    add("--tokenizer", type=at_home, help="a directory or Hub id whose ids the model has")
    add("--output", type=Path, default=Path("docs"), help="where bench.json, bench.md and the plots go")
    return parser.parse_args(words)


def measure(words: list[str]) -> None:
    """Read the command line, then measure.

    Raises:
        UserError: a value is invalid, or a measurement failed.
    """
    given = options(words)
    refuse(given)
    from dev.bench.suite import bench  # imports that take seconds

    bench(given)


def main(words: list[str]) -> int:
    """Run the command; return the exit status: 0, or 2 for wrong input."""
    return run_command(measure, words, out=output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
