"""Run one stage in its own processes: claim it, show progress, and report an error in one line."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch.config.checks import RETRAIN
from launch.config.machine import first_device
from launch.config.parallelism import with_deepspeed
from launch.stages.begun import go_on
from launch.stages.command import module, tracking, training
from launch.stages.digest import Planned
from launch.stages.nodes import on_every_node, rendezvous
from launch.stages.processes import start, stop
from launch.stages.progress import watch
from launch.stages.stale import changed_code, describe_stale, listed, set_aside
from launch.stages.tracker import followed, unreachable_tracker
from recipes.config import (
    NEEDS_LESS,
    OUT_OF_MEMORY,
    UNMERGED,
    DamagedConfig,
    UserError,
    done,
    read_config,
    write_config,
)
from recipes.system.commands import console
from recipes.system.errors import USER, CrashError
from recipes.system.files import remove_leftovers
from recipes.system.secrets import scrub, without_password

# The last words of a process that is refused memory and cannot write its error: Rust's, C++'s, Python's, the kernel's.
REFUSED = ("memory allocation of [0-9]+ bytes failed", "std::bad_alloc", r"^MemoryError\b", "Cannot allocate memory")
PLACES = (
    "pairs",
    "demonstrations",
    "start",
    "reward_model",
)  # read later too: may be moved with runs/


class OutOfMemory(UserError):
    """A stage needs more memory than its device has."""


class StageFailed(CrashError):
    """A stage crashed; the message ends with the path of its log."""


def say(line: str) -> None:
    """Print a line below a stage's."""
    console.print(f"       {line}")


def run_stage(planned: Planned, group: str) -> None:
    """Train a stage unless it is done; resume where an earlier attempt stopped.

    Raises:
        UserError: the stage stopped for a reason that the user can fix, or is from another version.
        StageFailed: it crashed.
        KeyboardInterrupt: the user stopped it; the same command resumes.
    """
    directory, config = planned.directory, planned.config
    prepare_directory(planned)
    with claim(directory):
        discard_damaged_record(directory)
        if moved_aside(planned):
            return run_stage(planned, group)
        tell_found(planned)
        if done(directory):
            return
        environment = tracking(directory, config["digest"], group, dict(os.environ))
        if config["processes"] == 1:  # otherwise the trainer would split every batch over all visible GPUs
            environment["CUDA_VISIBLE_DEVICES"] = first_device()
        if config["options"]["deepspeed"]:
            environment = with_deepspeed(environment)
        warm = config["options"]["use_cpu"] and config["processes"] == 1
        if not (directory / UNMERGED).exists():
            log_offline_where_needed(config["options"]["report_to"], environment)
            for line in followed(config["options"]["report_to"], environment):
                console.print(f"       {line}", soft_wrap=True)
            nodes = config.get("nodes", 1)
            command = training(config["stage"], directory, config["processes"], nodes, rendezvous())
            run(on_every_node(command, nodes), directory, config["stage"], environment, warm)
        if (directory / "adapter").is_dir() and not (directory / "model").is_dir():
            run(module("recipes.training.merge", directory), directory, "merge", environment, warm)
        if config["options"]["save_total_limit"] is not None:  # without a limit they are kept, for `eval.dynamics`
            for checkpoint in directory.glob("checkpoint-[0-9]*"):
                checkpoint.unlink() if checkpoint.is_symlink() else shutil.rmtree(checkpoint)
        (directory / UNMERGED).rename(directory / "record.json")


def moved_aside(planned: Planned) -> bool:
    """Whether other code trained in a stage's directory and `stale` is `retrain`: then move it, and say so."""
    changed = changed_code(planned) if planned.stale == RETRAIN else []
    if changed:
        place = set_aside(planned.directory)
        console.print(
            f"       {planned.directory} is trained again, {listed(changed)} changed; the old one is {place}",
            soft_wrap=True,
        )
    return bool(changed)


def tell_found(planned: Planned) -> None:
    """Report that a stage was trained before, and whether other code trained it."""
    told = describe_stale(planned)
    finished = done(planned.directory)
    if finished or told:
        words = ("done before, skipped" if finished else "resumes") + (f" ({told})" if told else "")
        console.print(f"{planned.config['stage']:>5}  {planned.directory}  {words}", soft_wrap=True)


def log_offline_where_needed(report_to: str | list[str] | None, environment: dict[str, str]) -> None:
    """Let a stage log to files if the W&B server cannot be reached, and say how to upload them later."""
    if address := unreachable_tracker(report_to):
        environment["WANDB_MODE"] = "offline"
        console.print(
            f"       W&B at {without_password(address)} cannot be reached: logging offline; upload the log later with "
            f"`wandb sync {environment['WANDB_DIR']}/wandb/offline-run-*`",
            soft_wrap=True,
        )


def prepare_directory(planned: Planned) -> None:
    """Write config.yaml; if the stage is done, update only the paths of its pairs and its initial checkpoint.

    Options that change no weight, such as loggers, may have changed.

    Raises:
        UserError: the directory is from another version, or was begun with other libraries.
    """
    directory = planned.directory
    directory.mkdir(parents=True, exist_ok=True)
    found = read_or_rewrite_config(directory, planned.config)
    if done(directory):
        moved = {name: planned.config[name] for name in PLACES if name in planned.config}
        if found | moved != found:
            write_config(directory, found | moved)
        return
    then, now = found.get("versions", {}), planned.config["versions"]
    changed = [f"{name} {version}" for name, version in then.items() if now.get(name) != version]
    if changed:
        raise UserError(
            f"{directory} was begun with {', '.join(changed)}: install these to finish it, or remove it and run again"
        )
    go_on(directory, found["options"], planned.config["options"])
    write_config(directory, planned.config)


def read_or_rewrite_config(directory: Path, planned: dict[str, Any]) -> dict[str, Any]:
    """Return the config.yaml that a stage began with; the planned one if it is missing or damaged.

    Raises:
        UserError: it is from another version.
    """
    try:
        found = read_config(directory) if (directory / "config.yaml").exists() else planned
        if planned.keys() <= found.keys():
            return found
        reason = f"{directory}/config.yaml is truncated"
    except DamagedConfig as error:
        reason = str(error).split(":")[0]
    console.print(f"       {reason}: writing it again", soft_wrap=True)
    write_config(directory, planned)
    return planned


def discard_damaged_record(directory: Path) -> None:
    """Remove a damaged record, so that the stage is trained again: the same command gives the same weights."""
    for name in (UNMERGED, "record.json"):
        try:
            json.loads((directory / name).read_bytes())
        except FileNotFoundError:
            continue
        except ValueError:
            (directory / name).unlink()
            console.print(f"       {directory}/{name} is damaged: finishing the stage again", soft_wrap=True)


@contextmanager
def claim(directory: Path) -> Iterator[None]:
    """Lock a stage while it trains; other processes wait. The kernel releases a dead process's lock."""
    with (directory / ".claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"       {directory}  is being trained by another process: waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        for place in (directory, directory / "eval"):
            remove_leftovers(place)
        scrub(directory / "log.txt")  # left by a stage whose launcher was killed
        yield


def run(command: list[str], directory: Path, title: str, environment: dict[str, str], warm: bool) -> None:
    """Run a stage's process, forked if `warm`, with its output in log.txt and a progress bar.

    Raises:
        UserError, StageFailed, KeyboardInterrupt: as in `run_stage`.
    """
    log = directory / "log.txt"
    before = log.stat().st_size if log.exists() else 0
    for stale in ("error.txt", "progress"):
        (directory / stale).unlink(missing_ok=True)
    process = start(command, log, environment, warm)
    console.print(f"{title:>5}  {directory}  started; log: {log.name}", soft_wrap=True)
    try:
        watch(process, directory, title, console, lambda: tell_resumed(log, before))
    except KeyboardInterrupt:
        say("stopping after this step, with a checkpoint; Ctrl-C again ends it at once")
        stop(process)
        raise
    finally:
        scrub(log)
    if process.returncode:
        raise failure(process.returncode, directory, title, before)


def tell_resumed(log: Path, before: int) -> None:
    """Say at which optimizer step a stage has resumed, if it has; what it wrote to its log begins at byte `before`."""
    written = log.read_bytes()[before:].decode(errors="replace")
    if found := re.search(r"^resuming from checkpoint-(\d+)$", written, re.M):
        say(f"resumed at step {found[1]}")


def failure(status: int, directory: Path, title: str, before: int) -> Exception:
    """Return the error for a stage that ended with `status`; its log began at byte `before`."""
    try:
        message = (directory / "error.txt").read_text()
        return (OutOfMemory if message.startswith(OUT_OF_MEMORY) else UserError)(message)
    except OSError:
        pass
    log = directory / "log.txt"
    written = log.read_bytes()[before:].decode(errors="replace")
    if re.search("|".join(REFUSED), written, re.M):
        return OutOfMemory(NEEDS_LESS)
    if told := re.findall("^error: (.*)$", written, re.M) if status == USER else []:  # there was no room for error.txt
        return UserError(told[-1])
    errors = re.findall(r"^(?:\[rank\d+\]: ?)?([\w.]*(?:Error|Exception|Interrupt)\b.*)$", written, re.M)
    ours = [line for line in errors if "ChildFailedError" not in line]
    killed = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return StageFailed(f"{title} failed ({ours[-1] if ours else killed}); its log is {log}")
