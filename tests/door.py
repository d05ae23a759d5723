"""The user's door: `python -m launch` as a process, and what it leaves behind."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob
from pathlib import Path
from typing import Any, TypeVar, Union

import pytest
from warm import QUIET, Command

ROOT = Path(__file__).parent.parent
PATIENCE = 600  # seconds until a test gives up on a process; what is waited for is a condition, on a busy machine too
ENDING = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM))  # as bits of a set of signals
T = TypeVar("T")
Process = Union["subprocess.Popen[Any]", Command]


def command(*words: object) -> list[str]:
    """The command line of the launcher."""
    return [sys.executable, "-m", "launch", *map(str, words)]


def launch(*words: object, status: int = 0, **environment: str) -> str:
    """Run the launcher to its end, assert its exit status, and return what it printed."""
    return run(command(*words), status, ROOT, **environment)


def run(words: list[str], status: int = 0, cwd: Path | str = ROOT, **environment: str) -> str:
    """Run a command to its end, assert its exit status, and return what it printed.

    A module, of this checkout or a copy, begins with its libraries imported, unless it finds other ones or starts jobs.
    """
    alone = "PYTHONPATH" in environment or any(word.startswith("launcher=") for word in words)
    if words[:2] == [sys.executable, "-m"] and not alone:
        process = Command(words[2:], Path(cwd), QUIET | environment)
        printed, _ = process.communicate()
        assert process.returncode == status, f"status {process.returncode}\n{printed}"
        return printed
    return run_alone(words, status, cwd, **environment)


def run_alone(words: list[str], status: int = 0, cwd: Path | str = ROOT, **environment: str) -> str:
    """Do as `run` does, in a process that imports for itself."""
    answer = subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **QUIET, **environment},
        check=False,
    )
    assert answer.returncode == status, f"status {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout + answer.stderr


def look(module: str, *words: object, status: int = 0) -> str:
    """Run `launch.doctor` or `launch.show` to its end, assert its exit status, and return what it printed."""
    return run([sys.executable, "-m", module, *map(str, words)], status)


def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
    """Start the launcher in a process group of its own, with its imports before it."""
    return subprocess.Popen(
        command(*words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **QUIET, **environment},
        start_new_session=True,
    )


def start_warm(*words: object) -> Command:
    """Start the launcher in a process group of its own, as `run` does: with its libraries imported."""
    return Command(command(*words)[2:], ROOT, QUIET)


def stages(runs: Path, pattern: str = "*") -> list[Path]:
    """The stage directories under `runs`, without the base models; directories may come and go meanwhile."""
    found = glob(f"{escape(str(runs))}/[!_]*/*/{pattern}/config.yaml")  # noqa: PTH207 (Path.glob fails then)
    return sorted(Path(path).parent for path in found if "/base-" not in path)


def record(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "record.json").read_text())


def losses(directory: Path) -> list[float]:
    entries = [json.loads(line) for line in (directory / "log_history.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def wait_until(condition: Callable[[], T | None], process: Process | None = None) -> T:
    """Wait until `condition` returns something true, and return that; a process that ends first is an error."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"not in {PATIENCE} s"
        time.sleep(0.02)
    return found


def wait_for_step(runs: Path, step: int, process: Process) -> Path:
    """Wait until a stage under `runs` has trained `step` updates; return its directory."""
    return wait_until(lambda: next((path for path in stages(runs) if updates(path) >= step), None), process)


def updates(directory: Path) -> int:
    """How many updates a stage has trained, by its checkpoints too: it reports its progress five times a second."""
    done = [int(path.name.split("-")[1]) for path in directory.glob("checkpoint-[0-9]*")]
    with suppress(OSError):
        words = (directory / "progress").read_text().split()
        done += [int(words[0])] if len(words) == 2 else []  # a third word: DPO's reference is scored
    return max(done, default=0)


def trainer_of(directory: Path) -> int:
    """The process id of the training that runs in a stage directory: its output goes to the log there."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "fd" / "1").readlink() == directory / "log.txt":
                return int(entry.name)
    raise AssertionError(f"nothing runs in {directory}")


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process has started, and theirs, with their names."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
            if int(rest.split()[1]) == pid and rest.split()[0] != "Z":
                found |= {int(entry.name): name, **descendants(int(entry.name))}
    return found


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: status(pid, "State") == "T")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """Halt a process until SIGINT or SIGTERM, sent meanwhile, has come to it: however fast, it has not ended before."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: status(pid, "State") == "T")
    yield
    # Slurm lets it go on by itself before it ends it
    wait_until(lambda: status(pid, "State") != "T" or int(status(pid, "ShdPnd"), 16) & ENDING)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def status(pid: int, name: str) -> str:
    """What the kernel says of a process: of `State` the letter; of one that has ended "0"."""
    try:
        return Path(f"/proc/{pid}/status").read_text().split(f"\n{name}:")[1].split()[0]
    except OSError:
        return "0"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def wandb_records(file: Path) -> list[Any]:
    """The records of an offline W&B run: a LevelDB log (blocks of 32 KiB, 7-byte heads) of protobuf messages."""
    from wandb.proto import wandb_internal_pb2

    read = getattr(wandb_internal_pb2, "Record")  # noqa: B009 (made at import: type checkers do not see it)
    data, place, message, found = file.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        size, kind = struct.unpack("<4xHB", data[place : place + 7]) if left >= 7 else (0, 0)
        if kind == 0:
            place += left
            continue
        part = data[place + 7 : place + 7 + size]
        message = part if kind in (1, 2) else message + part
        if kind in (1, 4):
            found.append(read.FromString(message))
        place += 7 + size
    return found


def short(*names: str, steps: int = 3) -> list[str]:
    """The options that train these stages for a few updates."""
    return [f"{stage}.{option}" for stage in names for option in (f"max_steps={steps}", "learning_rate=1e-3")]


def weights(directory: Path) -> bytes:
    return (directory / "model" / "model.safetensors").read_bytes()


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes, mounted at a new directory; the test is skipped where it cannot be."""
    directory.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
