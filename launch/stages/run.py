"""Run one stage in processes of its own: claim it, show progress, and say in one line what went wrong."""

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
from launch.config.parallelism import with_deepspeed
from launch.stages.command import module, tracking, training
from launch.stages.digest import Planned
from launch.stages.nodes import on_every_node, rendezvous
from launch.stages.processes import start, stop
from launch.stages.progress import watch
from launch.stages.stale import changed_code, describe_stale, listed, set_aside
from launch.stages.tracker import unreachable_tracker
from recipes.config import OUT_OF_MEMORY, UNMERGED, DamagedConfig, UserError, done, read_config, write_config
from recipes.system.commands import console
from recipes.system.errors import CrashError
from recipes.system.files import remove_leftovers
from recipes.system.secrets import scrub, without_password

SPLIT = ("per_device_train_batch_size", "gradient_accumulation_steps")  # their product is of the experiment
PLACES = ("pairs", "start", "reward_model")  # what a stage reads, and `eval` after it: may be moved with runs/


class OutOfMemory(UserError):
    """A stage needs more memory than its device has."""


class StageFailed(CrashError):
    """A stage crashed; the message ends with the path of its log."""


def say(line: str) -> None:
    """Print a line under the stages'."""
    console.print(f"       {line}")


def run_stage(planned: Planned, group: str) -> None:
    """Train a stage unless it is done, going on where an earlier attempt stopped.

    Raises:
        UserError: the stage stopped for a reason that the user can mend, or was made by another version.
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
        if config["processes"] == 1:  # or the trainer would spread every batch over all GPUs it sees
            environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
        if config["options"]["deepspeed"]:
            environment = with_deepspeed(environment)
        warm = config["options"]["use_cpu"] and config["processes"] == 1
        if not (directory / UNMERGED).exists():
            log_offline_where_needed(config["options"]["report_to"], environment)
            nodes = config.get("nodes", 1)
            command = training(config["stage"], directory, config["processes"], nodes, rendezvous())
            run(on_every_node(command, nodes), directory, config["stage"], environment, warm)
        if (directory / "adapter").is_dir() and not (directory / "model").is_dir():
            run(module("recipes.training.merge", directory), directory, "merge", environment, warm)
        if config["options"]["save_total_limit"] is not None:  # without a limit they stay, for `eval.dynamics`
            for checkpoint in directory.glob("checkpoint-[0-9]*"):
                checkpoint.unlink() if checkpoint.is_symlink() else shutil.rmtree(checkpoint)
        (directory / UNMERGED).rename(directory / "record.json")


def moved_aside(planned: Planned) -> bool:
    """Whether other code has trained in a stage's directory and `stale` wants that anew: it is moved, and said."""
    changed = changed_code(planned) if planned.stale == RETRAIN else []
    if changed:
        place = set_aside(planned.directory)
        console.print(
            f"       {planned.directory} is trained again, the old one is {place}: {listed(changed)} changed since",
            soft_wrap=True,
        )
    return bool(changed)


def tell_found(planned: Planned) -> None:
    """Say that a stage was trained before, and whether by other code."""
    told = describe_stale(planned)
    finished = done(planned.directory)
    if finished or told:
        words = ("done before, skipped" if finished else "goes on") + (f" ({told})" if told else "")
        console.print(f"{planned.config['stage']:>5}  {planned.directory}  {words}", soft_wrap=True)


def log_offline_where_needed(report_to: str | list[str] | None, environment: dict[str, str]) -> None:
    """Let a stage log to files where the W&B server cannot be reached, and say how to send it later."""
    if address := unreachable_tracker(report_to):
        environment["WANDB_MODE"] = "offline"
        console.print(
            f"       W&B at {without_password(address)} cannot be reached: logging offline; send it later by "
            f"`wandb sync {environment['WANDB_DIR']}/wandb/offline-run-*`",
            soft_wrap=True,
        )


def prepare_directory(planned: Planned) -> None:
    """Write config.yaml; of a stage that is done, only where its pairs and its start lie now.

    Options that change no weight, such as loggers, may be new.

    Raises:
        UserError: the directory was made by another version, or begun with other libraries.
    """
    directory = planned.directory
    directory.mkdir(parents=True, exist_ok=True)
    found = read_config_or_mend(directory, planned.config)
    if done(directory):
        moved = {name: planned.config[name] for name in PLACES if name in planned.config}
        if found | moved != found:
            write_config(directory, found | moved)
        return
    then, now = found.get("versions", {}), planned.config["versions"]
    changed = [f"{name} {version}" for name, version in then.items() if now.get(name) != version]
    if changed:
        raise UserError(
            f"{directory} was begun with {', '.join(changed)}: finish it with these, or remove it and run again"
        )
    if found["options"]["per_device_train_batch_size"] < planned.config["options"]["per_device_train_batch_size"]:
        for name in SPLIT:  # the digest is of the same ones, so an earlier attempt ran out of memory
            planned.config["options"][name] = found["options"][name]
    write_config(directory, planned.config)


def read_config_or_mend(directory: Path, planned: dict[str, Any]) -> dict[str, Any]:
    """Return the config.yaml that a stage began with; the planned one where there is none, or a damaged one.

    Raises:
        UserError: it was made by another version.
    """
    try:
        found = read_config(directory) if (directory / "config.yaml").exists() else planned
        if planned.keys() <= found.keys():
            return found
        reason = f"{directory}/config.yaml was cut off"
    except DamagedConfig as error:
        reason = str(error).split(":")[0]
    console.print(f"       {reason}: written anew", soft_wrap=True)
    write_config(directory, planned)
    return planned


def discard_damaged_record(directory: Path) -> None:
    """Let a stage whose record is no JSON any more be trained again: the same command gives the same weights."""
    for name in (UNMERGED, "record.json"):
        try:
            json.loads((directory / name).read_bytes())
        except FileNotFoundError:
            continue
        except ValueError:
            (directory / name).unlink()
            console.print(f"       {directory}/{name} is damaged: made anew", soft_wrap=True)


@contextmanager
def claim(directory: Path) -> Iterator[None]:
    """Hold a stage while it trains; whoever else wants it waits. The kernel lets go of a dead process's claim."""
    with (directory / ".claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"       {directory}  is being trained by another process: waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        for place in (directory, directory / "eval"):
            remove_leftovers(place)
        scrub(directory / "log.txt")  # of a stage whose launcher was killed
        yield


def run(command: list[str], directory: Path, title: str, environment: dict[str, str], warm: bool) -> None:
    """Run a stage's process, forked where `warm`, its output going to log.txt, with a progress bar.

    Raises:
        UserError, StageFailed, KeyboardInterrupt: as `run_stage`.
    """
    log = directory / "log.txt"
    before = log.stat().st_size if log.exists() else 0
    for stale in ("error.txt", "progress"):
        (directory / stale).unlink(missing_ok=True)
    process = start(command, log, environment, warm)
    if not console.is_terminal:  # where no bar moves
        console.print(f"{title:>5}  {directory}  started; it logs to {log}", soft_wrap=True)
    try:
        watch(process, directory, title, console)
    except KeyboardInterrupt:
        stop(process)
        raise
    finally:
        scrub(log)
    if process.returncode:
        raise failure(process.returncode, directory, title, before)


def failure(status: int, directory: Path, title: str, before: int) -> Exception:
    """Return what to tell the user about a stage that ended with `status`; its log began at byte `before`."""
    try:
        message = (directory / "error.txt").read_text()
        return (OutOfMemory if message.startswith(OUT_OF_MEMORY) else UserError)(message)
    except OSError:
        pass
    log = directory / "log.txt"
    written = log.read_bytes()[before:].decode(errors="replace")
    errors = re.findall(r"^(?:\[rank\d+\]: ?)?([\w.]*(?:Error|Exception|Interrupt)\b.*)$", written, re.M)
    ours = [line for line in errors if "ChildFailedError" not in line]
    killed = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return StageFailed(f"{title} failed ({ours[-1] if ours else killed}); its log is {log}")
