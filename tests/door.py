"""The user's door: `python -m launch` as a process, and what it leaves behind."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# Two workers test at once: processes with a thread for every core would slow each other down sixfold.
QUIET = {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def command(*words: object) -> list[str]:
    """The command line of the launcher."""
    return [sys.executable, "-m", "launch", *map(str, words)]


def launch(*words: object, status: int = 0, **environment: str) -> str:
    """Run the launcher to its end, assert its exit status, and return what it printed."""
    return run(command(*words), status, **environment)


def run(words: list[str], status: int = 0, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command to its end, assert its exit status, and return what it printed."""
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
    answer = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **QUIET},
        check=False,
    )
    assert answer.returncode == status, f"status {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout + answer.stderr


def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
    """Start the launcher in a process group of its own."""
    return subprocess.Popen(
        command(*words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **QUIET, **environment},
        start_new_session=True,
    )


def stages(runs: Path, pattern: str = "*") -> list[Path]:
    """The stage directories under `runs`, without the base models."""
    return sorted(
        path.parent for path in runs.glob(f"[!_]*/*/{pattern}/config.yaml") if "base-" not in path.parent.name
    )


def record(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "record.json").read_text())


def losses(directory: Path) -> list[float]:
    entries = [json.loads(line) for line in (directory / "log_history.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def wait_for_step(runs: Path, step: int, process: "subprocess.Popen[str]", patience: float = 120) -> Path:
    """Wait until a stage under `runs` has trained `step` updates; return its directory."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for file in runs.glob("[!_]*/*/*/progress"):
            text = file.read_text().split() if file.exists() else []
            if len(text) == 2 and int(text[0]) >= step:
                return file.parent
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.02)
    raise AssertionError(f"no stage under {runs} reached step {step} in {patience} s")


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
