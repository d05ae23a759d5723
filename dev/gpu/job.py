"""One measurement in its own process, with a time limit; its output goes to a log."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ENDING = 10  # seconds that a process has to end after it sent its outcome
Outcome = dict[str, Any]  # status, seconds, and figures or a reason
MEASURED, SKIPPED, FAILED, LATE = "measured", "skipped", "failed", "out of time"

# The parts in order: the share of all minutes after which the next part starts, and the maximum minutes of one job.
SHARES = {
    "exactness": (0.12, 1.5),
    "recipes": (0.26, 3.0),
    "speed": (0.33, 1.5),
    "changes": (0.07, 1.5),
    "generation": (0.06, 1.0),
    "pipelines": (0.16, 2.5),
}


class Skip(Exception):
    """Something is missing for a measurement; the message says what."""


@dataclass(frozen=True)
class Job:
    """A measurement: a function of some module and its arguments."""

    part: str
    name: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        """The key of its outcome."""
        return f"{self.part}: {self.name}"


def run(job: Job, limit: float, log: Path, method: str = "forkserver") -> Outcome:
    """Run a job for at most `limit` seconds, and return its outcome; it cannot stop other jobs.

    With "forkserver" the process is forked from one that has imported the libraries, which saves ten seconds per job;
    with "spawn" it imports them itself.
    """
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["dev.bench.measure"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, theirs, log))
    started = time.monotonic()
    process.start()
    theirs.close()
    try:
        outcome = ours.recv() if ours.poll(limit) else {"status": LATE, "reason": f"stopped after {limit:.0f} s"}
        process.join(ENDING if outcome["status"] != LATE else 0)
    except EOFError:
        process.join()
        outcome = {"status": FAILED, "reason": f"its process died (exit status {process.exitcode})"}
    finally:
        process.kill()  # itself: it may not lead a group yet
        with suppress(ProcessLookupError):  # and its children
            os.killpg(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
    return {**outcome, "seconds": round(time.monotonic() - started, 2)}


def work(job: Job, results: Connection, log: Path) -> None:
    """Call the job's function in this process, and send its outcome."""
    os.setpgid(0, 0)
    with log.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    print(f"\n=== {job.key}", flush=True)
    try:
        outcome = {"status": MEASURED, "figures": job.function(*job.arguments)}
    except Skip as reason:
        outcome = {"status": SKIPPED, "reason": str(reason)}
    except Exception as error:  # whatever a measurement raises: the others go on
        traceback.print_exc()
        outcome = {"status": FAILED, "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    results.send(outcome)
    results.close()
