"""Start processes with PyTorch and TRL already imported: fork them from a process that has done nothing else.

That process is Python's own fork server. It imports on another core while the launcher still composes. It is
single-threaded except for libraries' threads that are safe to fork. The launcher itself never imports PyTorch. With a
GPU, stages are started as new processes instead: CUDA does not survive a fork.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, ForkServerContext
from pathlib import Path
from typing import Any

from launch.stages.command import PATIENCE
from launch.stages.nodes import Step
from recipes.system.processes import LAUNCHER, die_with_parent, set_name, take_children_along

multiprocessing.set_forkserver_preload(["launch.stages.preload"])
# An option of the process that frees what killed ones leave behind, which would warn of it after a second Ctrl-C.
LEAKS = "ignore:resource_tracker:UserWarning"
CONTEXT: ForkServerContext | ForkContext = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the imports in the process that others are forked from; it ends with the calling thread."""
    if CONTEXT.get_start_method() == "forkserver":
        if LEAKS not in sys.warnoptions:
            sys.warnoptions.append(LEAKS)
        os.environ[LAUNCHER] = str(os.getpid())
        forkserver.ensure_running()


def fork_from_here() -> None:
    """Fork from this process, itself forked from a warm one, so that a job's stages need not import again."""
    global CONTEXT
    CONTEXT = multiprocessing.get_context("fork")


class Forked:
    """A call in a warm process, with the methods of `subprocess.Popen` that the launcher needs."""

    any_yet = False  # whether the imports have been waited for

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        Forked.any_yet = True
        warm_up()
        self.process = CONTEXT.Process(target=begin, args=(function, *arguments))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status and return it.

        Raises:
            subprocess.TimeoutExpired: the process still runs after `timeout` seconds.
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0.0)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.process.exitcode is None and self.process.pid:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()


Process = Forked | subprocess.Popen[bytes]


def start(command: list[str], log: Path | None, environment: dict[str, str], warm: bool) -> Process:
    """Start a command of `stages.command`, forked or as a new process; append its output to `log`, else print it."""
    if warm:
        return Forked(run_module, command[2:], log, environment)
    if log is None:
        return subprocess.Popen(command, env=environment, preexec_fn=partial(die_with_parent, os.getpid()))
    kind = Step if command[0] == "srun" else subprocess.Popen
    with log.open("a") as output:
        return kind(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=partial(die_with_parent, os.getpid()),
            process_group=0,  # or torchrun would get Ctrl-C twice and not wait for its workers
        )


def finish(process: Process) -> int:
    """Wait for a process, and stop it if this one is interrupted; return its exit status."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        print("       stopping; Ctrl-C again ends it at once", file=sys.stderr, flush=True)
        stop(process)
        raise


def stop(process: Process) -> None:
    """Stop a process: SIGTERM, so that a training saves a checkpoint, then SIGKILL; a second Ctrl-C does not wait."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def call(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a warm process; raise here what it raises there, with its traceback as a note.

    Raises:
        RuntimeError: the process ended without an answer; it was killed, for example.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = Forked(answer, sender, function, *arguments)
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} ended with exit status {process.wait()}") from None
    except KeyboardInterrupt:
        stop(process)
        raise
    process.wait()
    if error is not None:
        raise error


def begin(function: Callable[..., None], *arguments: Any) -> None:
    """In the forked process: undo the fork server's own settings, and call; do nothing if the launcher has died."""
    die_with_parent()
    launcher = multiprocessing.parent_process()
    if launcher is None or not launcher.is_alive():
        return
    take_children_along()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    function(*arguments)


def answer(sender: Connection, function: Callable[..., None], *arguments: Any) -> None:
    """In the forked process: call the function, and send what it raised, or None."""
    set_name(function.__name__)
    try:
        function(*arguments)
        sender.send(None)
    except BaseException as error:
        error.add_note(traceback.format_exc())
        sender.send(error)


def run_module(words: list[str], log: Path | None, environment: dict[str, str]) -> None:
    """In the forked process: run `python -m WORDS`; what it forks in turn has the same libraries imported."""
    fork_from_here()
    set_name(words[0])
    if log is not None:
        with log.open("a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
    os.environ.update(environment)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
