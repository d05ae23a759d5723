"""A job in its own process: train what was handed over, evaluate it, and requeue when Slurm's time limit is near."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

from launch.config.machine import gpu_memories
from launch.executors.job import Outcome
from launch.executors.queue import read_job, take_over
from launch.stages.command import module
from launch.stages.processes import finish, start, warm_up
from launch.stages.run import StageFailed, claim
from recipes.system.errors import INTERRUPTED
from recipes.system.processes import forget_launchers


class OutOfTime(KeyboardInterrupt):
    """The job's time limit is near."""


def work(directory: Path) -> None:
    """Train and evaluate the job of a directory.

    SIGUSR2, which Slurm sends before the time limit, ends it with a checkpoint and queues it again. SIGTERM, from
    `scancel` or preemption, ends it with a checkpoint, and Slurm decides what follows. Ctrl-C arrives as SIGINT at all
    processes of a terminal, then as the launcher's SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, end)
    if line := forget_launchers():  # of the shell from which it was submitted
        print(line, flush=True)
    warm_up()
    attempt = {
        **{"host": socket.gethostname(), "job": os.environ.get("SLURM_JOB_ID")},
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    try:
        take_over(directory, attempt, lambda outcome: evaluate(outcome, directory))
    except OutOfTime:
        requeue(read_job(directory).launcher.requeues)


def end(number: int, frame: FrameType | None) -> None:
    """End the job once: later signals must not disturb the checkpoint."""
    for other in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGUSR2:
        raise OutOfTime("its time limit is near: requeued, the job resumes from its checkpoint")
    raise KeyboardInterrupt("cancelled or preempted: run the same command to resume from the checkpoint")


def requeue(limit: int) -> None:
    """Requeue this job, as often as the profile allows."""
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) < limit:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)


def evaluate(outcome: Outcome, directory: Path) -> None:
    """Evaluate what the job trained, if its session is evaluated; a model that jobs share is evaluated by one of them.

    Raises:
        StageFailed: a model could not be evaluated.
    """
    if not (outcome.evaluate and outcome.pipelines):
        return
    for model in dict.fromkeys([outcome.base, *(stages[-1] for stages in outcome.pipelines.values())]):
        with claim(Path(model)):
            status = finish(
                start(module("eval.commands.job", directory, model), None, dict(os.environ), not gpu_memories())
            )
        if status:
            raise StageFailed(
                f"the evaluation of {model} ended with status {status}: make eval RUNS={directory.parent}"
            )


def main(directory: Path) -> int:
    """Run as a process of `executors.local`; return the exit status, 0 if job.json has the outcome."""
    try:
        work(directory)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
