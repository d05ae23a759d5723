"""Commands that begin with PyTorch and TRL imported: forked from one process of each test worker.

A command's imports take ten seconds of a core, most of what a short training costs. The launcher forks its stages from
such a process; the tests fork the launcher itself from one, as `launcher=local` does with its jobs.
"""

import os
import tempfile
from pathlib import Path

from launch.stages.processes import Forked, fork_from_here, run_module, warm_up


def python_m(words: list[str], place: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Do as `python -m WORDS` does in directory `place`; return the exit status and what was printed, in order."""
    before = dict(os.environ)
    os.environ.update(environment)  # a console reads its width, and the hub whether it is offline, when imported
    warm_up()
    os.environ.clear()
    os.environ.update(before)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        status = Forked(command, words, place, log, {**before, **environment}).wait()
        return status, log.read_text()


def command(words: list[str], place: Path, log: Path, environment: dict[str, str]) -> None:
    """In the forked process: forget the environment of the one that it comes from, and run."""
    os.environ.clear()
    os.chdir(place)
    fork_from_here()
    run_module(words, log, environment)
