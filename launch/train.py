"""Compose a configuration, train its stages, evaluate them, print the table.

Hydra is the parent and composes once; torchrun is the child and never sees Hydra.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from launch.config.errors import CONF, explained
from launch.config.machine import gpu_memories
from launch.config.schema import register
from launch.config.session import Session, ran_before
from launch.config.sweep import TUNE, as_one_job, refuse_repeated, swept, trials_of
from launch.config.trust import refuse_words
from launch.executors.check import check_pipelines
from launch.executors.elsewhere import run_elsewhere
from launch.executors.job import HERE, run_job, train_pipelines
from launch.executors.queue import Queue, hand_over
from launch.executors.report import print_table, report
from launch.named.words import with_profiles
from launch.stages.command import module
from launch.stages.processes import Forked, finish, start, warm_up
from recipes.config import read_json
from recipes.system.commands import console
from recipes.system.errors import CRASH, INTERRUPTED, USER

CHECK = "--check"  # our flag beside Hydra's: check everything, train nothing


def run_or_hand_over(config: DictConfig, words: list[str], queue: Queue, check: bool) -> None:
    """Check or run one job of the command line `words`, or add it to `queue`; its directory keeps the outcome."""
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    train = check_pipelines if check else train_pipelines
    if not check and config.launcher.name != HERE:
        train = partial(hand_over, directory=directory, queue=queue)
    profile = [f"{name}={values}" for name, values in (hydra_config.sweeper.get("params") or {}).items()]  # conf/sweep
    run_job(config, list(hydra_config.overrides.task), directory, train, swept([*profile, *words]))


def main(words: list[str]) -> int:
    """Run all jobs of a command line; return the worst job's exit status.

    Raises:
        UserError: a word is rejected, or the configuration cannot be composed.
    """
    if any(word.startswith(TUNE) for word in words):
        from launch.tune import tune  # takes a second, which no other launch needs

        if not (CHECK in words and trials_of(words)):
            return tune(words)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, which we report in one line
    if {"--cfg", "-c"} & set(words):  # of one job, all values in effect
        words = [word for word in words if word not in ("-m", "--multirun", "--resolve")] + ["--resolve"]
    elif not ran_before(words) and not any(
        word.startswith("launcher=") and word != f"launcher={HERE}" for word in words
    ):
        warm_up()  # PyTorch is imported meanwhile
    check = CHECK in words
    refuse_words([word for word in words if word != CHECK])
    # the trials of tune= check themselves
    words = with_profiles(word for word in words if word != CHECK and not word.startswith(TUNE))
    session, queue = Session(temporary=check), Queue()
    register(session)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(config: DictConfig) -> None:
        run_or_hand_over(config, words, queue, check)

    with explained():
        refuse_repeated(words)
        sys.argv[1:] = as_one_job(words)  # where Hydra reads them
        job()
    if session.directory is None:  # Hydra printed what was asked for, and ran no job
        return 0
    if check:
        return checked(session.directory)
    return elsewhere(session.directory, queue) if queue else report(session.directory, evaluate)


def checked(directory: Path) -> int:
    """Remove a session in which nothing was trained; return the worst job's exit status."""
    status = max(read_json(path)["status"] for path in directory.glob("*/job.json"))
    shutil.rmtree(directory)
    return status


def elsewhere(directory: Path, queue: Queue) -> int:
    """Run a session's jobs in other processes, which also evaluate what they train; return the exit status.

    Raises:
        UserError: the jobs name several launchers, or cannot run there.
    """
    if run_elsewhere(directory, queue):
        return report(directory, print_table)
    shutil.rmtree(directory)  # a dry run leaves nothing
    return 0


def evaluate(directory: Path) -> int:
    """Evaluate a session in a process of its own, which prints the table; return its exit status."""
    warm = Forked.any_yet and not gpu_memories()  # a table of old results need not wait for PyTorch
    status = finish(start(module("eval", directory), None, dict(os.environ), warm))
    if status in (0, CRASH, USER, INTERRUPTED):
        return status
    killed = f"killed by signal {-status}" if status < 0 else "killed"  # a forked process's signal may be unknown
    console.print(
        f"error: the evaluation was {killed}; resume it with: make eval RUNS={directory}", style="red", soft_wrap=True
    )
    return CRASH
