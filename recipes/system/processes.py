"""How processes end and are seen: with the one that started them, on signals, and under a name."""

import ctypes
import math
import os
import runpy
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
LAUNCHER = "FORK_SERVER_OF"  # in the fork server's environment: the process id of the launcher that it ends with


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent dies, even by SIGKILL (Linux; elsewhere nothing is done).

    Without it a killed launcher leaves a training behind, and the next one would write into the same stage. A
    `parent` that has died before the kernel was asked ends this process at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os._exit(1)


def take_children_along() -> None:
    """Let every process that this one forks from now on die with it: a pool's workers would outlive a SIGKILL."""
    os.register_at_fork(after_in_child=die_with_parent)


def interrupt_on_signals() -> None:
    """End like Ctrl-C on SIGTERM, which clusters and `kill` send, and on SIGINT where a script's `&` ignores it.

    What comes within a second is the same signal once more: `make` passes on what its whole group was sent.
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
    # `python -m recipes.system.processes MODULE WORDS…`, for torchrun's workers: what they import takes seconds, in
    # which they would outlive a torchrun that is killed.
    die_with_parent()
    if os.getppid() == 1:
        sys.exit("torchrun has ended")
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
