"""When and what to kill: moments throughout a command's life, and any of its processes."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

SIGNALS = ("KILL", "TERM", "STOP then KILL")
VICTIMS = ("launcher", "stage", "any")
PATIENCE = 300  # seconds that a command has to end after a kill
# Signs of each moment (globs under runs/, for files newer than the command), and seconds to wait then.
MOMENTS: dict[str, tuple[tuple[str, ...], float]] = {
    "start-up": ((), 6.0),
    "tokenising": (("_pairs",), 1.5),
    "pretraining": (("pocket/base-*/progress",), 10.0),
    "base's save": (("pocket/base-*/.model.partial", "pocket/base-*/model", "pocket/base-*/*.json"), 0.05),
    "training": (("[!_]*/*/*/progress",), 1.5),
    "checkpoint": (("[!_]*/*/*/checkpoint-*",), 0.05),
    "last save": (("[!_]*/*/*/.model.partial", "[!_]*/*/*/model", "[!_]*/*/*/record*.json"), 0.05),
    "evaluation": (("[!_]*/*/*/eval/answers.jsonl",), 0.5),
    "table": (("_sessions/*/table.md", "_sessions/*/.table*"), 0.1),
}


def wait_for(moment: str, runs: Path, process: "subprocess.Popen[bytes]", random: Random) -> bool:
    """Wait for a moment and a random time after it; return whether the command still runs."""
    patterns, longest = MOMENTS[moment]
    while patterns and process.poll() is None and not any(newer(runs, patterns, started(process.pid))):
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        process.wait(random.uniform(0, longest))
    return process.poll() is None


def newer(runs: Path, patterns: tuple[str, ...], than: float) -> Iterator[Path]:
    """Yield what has been written since `than`, in seconds since the epoch."""
    for path in (path for pattern in patterns for path in runs.glob(pattern)):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime > than:
                yield path


def started(pid: int) -> float:
    """Return when a process began, in seconds since the epoch; infinity if it has ended."""
    try:
        return Path("/proc", str(pid)).stat().st_ctime
    except FileNotFoundError:
        return float("inf")


def marked(mark: str, whole: bool = True) -> dict[int, bool]:
    """Return the processes with `mark` in their environment, and whether each is a stage's, whose output is a log.

    Unless `whole`, also those whose mark starts with it.
    """
    wanted = f"FAULTS_MARK={mark}{chr(0) if whole else ''}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "fd" / "1").readlink().name == "log.txt"
    return found


def choose(victim: str, launcher: int, mark: str, random: Random) -> int:
    """Return the process to kill; the launcher if there is no other."""
    found = marked(mark)
    others = [pid for pid, stage in sorted(found.items()) if pid != launcher and (stage or victim == "any")]
    return random.choice(others) if others and victim != "launcher" else launcher


def hit(kind: str, pid: int, random: Random) -> None:
    """Send a process the signals of a kind of kill, unless it has just ended."""
    steps: dict[str, Callable[[], None]] = {
        "KILL": lambda: os.kill(pid, signal.SIGKILL),
        "TERM": lambda: os.kill(pid, signal.SIGTERM),
        "STOP then KILL": lambda: stop_then_kill(pid, random),
    }
    with suppress(ProcessLookupError):
        steps[kind]()


def stop_then_kill(pid: int, random: Random) -> None:
    """Stop a process for a while, as closing a laptop does, then kill it."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(random.uniform(0.1, 1))
    os.kill(pid, signal.SIGKILL)


def lost_rank(mark: str, random: Random) -> int | None:
    """Return one of the processes that train together."""
    ranks = []
    for pid in marked(mark):
        with suppress(OSError):
            if b"LOCAL_RANK=" in Path("/proc", str(pid), "environ").read_bytes():
                ranks.append(pid)
    return random.choice(sorted(ranks)) if ranks else None


def survivors(mark: str, patience: float = 20) -> list[int]:
    """Return the processes that outlive their launcher, and kill them; those that are ending get some time."""
    end = time.monotonic() + patience
    while (found := list(marked(mark))) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found
