"""Commands that begin with PyTorch and TRL imported: forked from one process of each test worker.

A command's imports take ten seconds of a core, most of what a short training costs. The launcher forks its stages from
such a process; the tests fork the launcher itself from one, as `launcher=local` does with its jobs.
"""

import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from launch.stages.processes import Forked, warm_up
from recipes.system.paths import ROOT

# Two workers test at once: processes with a thread for every core would slow each other down sixfold.
QUIET = {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def begin_imports() -> None:
    """Start the process that commands are forked from, unless it runs."""
    before = dict(os.environ)
    os.environ.update(QUIET)  # a console reads its width, and the hub whether it is offline, when imported
    warm_up()
    os.environ.clear()
    os.environ.update(before)


class Command(Forked):
    """`python -m WORDS` in directory `place`, in a session of its own; what it prints is kept, in order."""

    def __init__(self, words: list[str], place: Path, environment: dict[str, str]) -> None:
        begin_imports()
        self.folder = tempfile.TemporaryDirectory()
        self.log = Path(self.folder.name, "log.txt")
        super().__init__(command, words, place, self.log, {**os.environ, **environment})

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid
        return self.process.pid

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what it printed, and nothing."""
        self.wait(timeout)
        with self.folder:
            return self.log.read_text(), ""


def command(words: list[str], place: Path, log: Path, environment: dict[str, str]) -> None:
    """In the forked process: forget the environment of the one that it comes from, and run the code of `place`."""
    os.setsid()
    os.environ.clear()
    os.chdir(place)
    if place != ROOT:
        become(place)
    import_module("launch.stages.processes").run_module(words, log, environment)


def become(copy: Path) -> None:
    """Forget this checkout's modules, so that those of a copy are imported; libraries stay."""
    for name in [name for name in sys.modules if (ROOT / name.partition(".")[0]).is_dir()]:
        del sys.modules[name]
    sys.path[:] = [str(copy), *(path for path in sys.path if Path(path) != ROOT)]
