"""Processes: end with their parent, handle signals, and have a name."""

import ctypes
import math
import os
import re
import runpy
import signal
import sys
import time
from pathlib import Path

from recipes.system.errors import UserError

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
LAUNCHER = "FORK_SERVER_OF"  # in the fork server's environment: the process id of the launcher, with which it ends
# What torchrun, `accelerate launch` and MPI set for their processes. PyTorch would wait for the others.
SET_BY_LAUNCHERS = re.compile(
    r"((LOCAL|GROUP|ROLE|NODE)_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|(TORCHELASTIC|ACCELERATE|OMPI|MV2|PMI)_\w+"
    r"|MPI_LOCAL\w+"
)
LAUNCHERS = ("torchrun", "torch.distributed.run", "torch.distributed.launch", "accelerate")


def forget_launchers() -> str | None:
    """Remove from the environment what another launcher left there; return the line that says so, or None.

    The commands start torchrun themselves, and it sets these for the processes of a stage.

    Raises:
        UserError: such a launcher has started this command.
    """
    found = [name for name in os.environ if SET_BY_LAUNCHERS.fullmatch(name)]
    if found and (launcher := started_by()):
        raise UserError(f"{launcher} started this command: start it without; hardware.processes says how many train")
    names = ", ".join(f"{name}={os.environ.pop(name)}" for name in sorted(found))
    return f"{names}: left by another launcher, not passed on" if found else None


def started_by() -> str | None:
    """Return which launcher of distributed trainings is the parent of this process; None if it is none (Linux)."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return None
    names = {Path(word).name for word in words[:3]}  # python -m torch.distributed.run, python …/bin/torchrun
    return next((launcher for launcher in LAUNCHERS if launcher in names), None)


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent dies, even by SIGKILL (Linux; elsewhere nothing is done).

    Otherwise a killed launcher would leave a training running, and the next one would write to the same stage. If
    `parent` has already died, this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os._exit(1)


def take_children_along() -> None:
    """Terminate every process that this one forks from now on with it: a pool's workers would survive a SIGKILL."""
    os.register_at_fork(after_in_child=die_with_parent)


def interrupt_on_signals() -> None:
    """Handle SIGTERM, which clusters and `kill` send, like Ctrl-C; also SIGINT, which a script's `&` would ignore.

    A signal within a second of the first is the same one: `make` forwards what its whole group was sent.
    """
    last = -math.inf

    def interrupt(number: int, frame: object) -> None:
        nonlocal last
        again, last = time.monotonic() - last < 1, time.monotonic()
        if not again:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def set_name(name: str) -> None:
    """Give this process the name that `top` and `ps -e` show, at most 15 bytes (Linux; elsewhere nothing is done)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())


if __name__ == "__main__":
    # `python -m recipes.system.processes MODULE WORDS…`, for torchrun's workers: their imports take seconds, during
    # which they would survive a killed torchrun.
    die_with_parent()
    if os.getppid() == 1:
        sys.exit("torchrun has ended")
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
