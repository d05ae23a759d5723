"""Processes that have PyTorch and TRL imported when they start: forked from one that has done nothing else.

Python's own fork server is that process. It imports while the launcher still composes, on another core, and it is
single-threaded but for threads of libraries that take care of a fork. The launcher itself never imports PyTorch.
Where a GPU is used, stages are started afresh instead: CUDA does not survive a fork.
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
CONTEXT: ForkServerContext | ForkContext = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Begin to import, in the process that others are forked from; it ends with the thread that calls this."""
    if CONTEXT.get_start_method() == "forkserver":
        os.environ[LAUNCHER] = str(os.getpid())
        forkserver.ensure_running()


def fork_from_here() -> None:
    """Fork from this process, which was itself forked from a warm one: a job need not import for its stages again."""
    global CONTEXT
    CONTEXT = multiprocessing.get_context("fork")


class Forked:
    """A call in a warm process, with those methods of `subprocess.Popen` that the launcher needs."""

    any_yet = False  # whether the imports have been waited for

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        Forked.any_yet = True
        warm_up()
        self.process = CONTEXT.Process(target=begin, args=(function, *arguments))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal that ended it, or None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once there is one.

        Raises:
            subprocess.TimeoutExpired: there is none after `timeout` seconds.
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
    """Start a command of `stages.command`, forked or afresh; its output is added to `log`, or goes where ours goes."""
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
            process_group=0,  # or torchrun would have a Ctrl-C twice, and not wait for its workers
        )


def finish(process: Process) -> int:
    """Wait for a process, and end it where this one is interrupted; return its exit status."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        stop(process)
        raise


def stop(process: Process) -> None:
    """End a process kindly, then firmly: a training saves a checkpoint; a second Ctrl-C does not wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def call(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a warm process, and raise here what it raises there, its traceback as a note.

    Raises:
        RuntimeError: the process ended without a word, as one that is killed does.
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
    """In the forked process: undo what is the fork server's alone, and call; not where the launcher has died since."""
    die_with_parent()
    launcher = multiprocessing.parent_process()
    if launcher is None or not launcher.is_alive():
        return
    take_children_along()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    function(*arguments)


def answer(sender: Connection, function: Callable[..., None], *arguments: Any) -> None:
    """In the forked process: call, and send what was raised, or None."""
    try:
        function(*arguments)
        sender.send(None)
    except BaseException as error:
        error.add_note(traceback.format_exc())
        sender.send(error)


def run_module(words: list[str], log: Path | None, environment: dict[str, str]) -> None:
    """In the forked process: do as `python -m WORDS` does."""
    set_name(words[0])
    if log is not None:
        with log.open("a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
    os.environ.update(environment)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
