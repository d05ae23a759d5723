"""Processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, even by SIGKILL (Linux; elsewhere nothing is done).

    Without it a killed launcher leaves a training behind, and the next one would write into the same stage.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def take_children_along() -> None:
    """Let every process that this one forks from now on die with it: a pool's workers would outlive a SIGKILL."""
    os.register_at_fork(after_in_child=die_with_parent)


def interrupt_on_signals() -> None:
    """End like Ctrl-C on SIGTERM, which clusters and `kill` send, and on SIGINT where a script's `&` ignores it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def set_name(name: str) -> None:
    """Give this process the name that `top` and `ps -e` show, at most 15 bytes (Linux; elsewhere nothing is done)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())
