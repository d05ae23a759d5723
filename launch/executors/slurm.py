"""Run jobs on a Slurm cluster: submit them as arrays with submitit, and wait until they have left the queue.

A job is a directory of its session, with its configuration; `executors.worker` trains it there. A job evaluates what it
trained, so this process needs no GPU and may be stopped: the jobs go on.
"""

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string  # a dry run prints what its executor would write

from launch.config.judging import trained_stages
from launch.config.schema import Config, Launcher
from launch.executors.job import Outcome, keep
from launch.executors.queue import Queue
from launch.executors.report import fill_table
from launch.executors.shared import shared_rounds
from launch.executors.worker import work
from launch.stages.command import training
from launch.stages.nodes import on_every_node
from recipes.config import UserError, read_json
from recipes.profiles import Hardware
from recipes.system.commands import console
from recipes.system.errors import CRASH

FIRST_LOOK, LONGEST = 1.0, 30.0  # seconds between two checks of the queue, short at first for short jobs


def name_of(config: Config) -> str:
    """Return a job's name in Slurm's queue: the model, and the pipelines that it trains."""
    return f"{config.model.name}-{'-'.join(config.pipelines) or 'judge'}"


def demands(launcher: Launcher, hardware: Hardware, name: str) -> dict[str, Any]:
    """Return the resources to request from sbatch, under the names of `submitit.SlurmExecutor.update_parameters`."""
    nodes = hardware.nodes
    gpus = launcher.gpus_per_node
    if gpus is None:
        gpus = 0 if hardware.use_cpu else hardware.processes // nodes
    memory = launcher.memory_gb
    asked = {
        **{name: getattr(launcher, name) for name in ("partition", "account", "qos", "cpus_per_task")},
        **{"job_name": name, "nodes": nodes, "ntasks_per_node": 1, "time": launcher.minutes},
        **{"gpus_per_node": gpus or None, "mem": memory and f"{1000 * memory:.0f}M"},
        **{"array_parallelism": launcher.at_once, "setup": launcher.setup or None, "use_srun": False},
        "stderr_to_stdout": True,
        "additional_parameters": {
            "signal": f"B:USR2@{launcher.warning_seconds}",  # to the launcher of a job, which signals its stage
            "requeue": True,
            **launcher.sbatch,
        },
    }
    return {"wckey": None, **{name: value for name, value in asked.items() if value is not None}}


def run_queue(session: Path, queue: Queue) -> bool:
    """Submit a session's jobs and wait for their end; return whether any were submitted: a dry run submits none.

    Raises:
        UserError: Slurm rejects the jobs.
        KeyboardInterrupt: the user stopped waiting; the jobs go on.
    """
    jobs: dict[str, Path] = {}
    try:
        for number, part in enumerate([*shared_rounds(session, queue), queue]):
            before = arrays(jobs) if jobs or not number else ["<the above>"]  # a dry run has no ids
            jobs |= hand_in(part, session / "slurm", before)
    except UserError:
        if jobs:
            subprocess.run(["scancel", *arrays(jobs)], check=False)
        raise
    try:
        follow(jobs, session)
    except KeyboardInterrupt:
        console.print(
            f"the jobs go on: `squeue` lists them, `make table RUNS={session}` shows what is done, "
            f"`scancel {' '.join(arrays(jobs))}` ends them",
            soft_wrap=True,
        )
        raise
    if not jobs:
        console.print("dry run: nothing was submitted")
    return bool(jobs)


def hand_in(queue: Queue, folder: Path, before: list[str]) -> dict[str, Path]:
    """Submit jobs that wait for the end of those `before`, or print their scripts; return job id -> directory.

    Raises:
        UserError: Slurm rejects them.
    """
    alike: dict[str, list[Path]] = {}  # an array's jobs request the same resources
    for directory, config in queue.items():
        asked = demands(config.launcher, config.hardware, name_of(config))
        asked |= {"dependency": f"afterany:{':'.join(before)}"} if before else {}
        alike.setdefault(json.dumps(asked), []).append(directory)
    jobs: dict[str, Path] = {}
    for asked, directories in alike.items():
        if queue[directories[0]].launcher.dry_run:
            print(script(json.loads(asked), folder, len(directories)))
            print(*lines([queue[directory] for directory in directories]), sep="\n")
        else:
            jobs |= submit(json.loads(asked), folder, directories)
    return jobs


def arrays(jobs: Iterable[str]) -> list[str]:
    """Return the ids of the arrays or single jobs that these jobs belong to."""
    return list(dict.fromkeys(job.split("_")[0] for job in jobs))


def script(parameters: dict[str, Any], folder: Path, jobs: int) -> str:
    """Return the batch script of an array, as sbatch would get it."""
    command = f"{interpreter()} -u -m submitit.core._submit {folder.absolute()}"
    return _make_sbatch_string(command, folder, map_count=jobs if jobs > 1 else None, **parameters)


def lines(configs: list[Config]) -> list[str]:
    """Return comments for a dry run: what the jobs of an array do, and their stages' commands on several devices."""
    config = configs[0]
    hardware, trains = config.hardware, "; ".join(" → ".join(stages) for stages in config.pipelines.values())
    trains = trains or "the judge"
    then = ", then evaluates" if config.evaluate else ""
    found = ["# submitit calls launch.executors.worker.work with a job's directory, whose config.yaml says what to do:"]
    found += [f"# {len(configs)} job{'s' * (len(configs) > 1)}; each trains {trains} of {config.model.name}{then}"]
    for stage in trained_stages(config) if hardware.processes > 1 else ():
        meet, directory = "<first node>:<port>", Path(f"<{stage}'s directory>")
        command = training(stage, directory, hardware.processes, hardware.nodes, meet)
        found.append("# " + " ".join(on_every_node(command, hardware.nodes)))
    return found


def interpreter() -> str:
    """Return the command that becomes a job's process: it replaces the batch script, so that it gets the signals."""
    return f"exec {shlex.quote(sys.executable)}"


def submit(parameters: dict[str, Any], folder: Path, directories: list[Path]) -> dict[str, Path]:
    """Submit an array; return job id -> the job's directory.

    Raises:
        UserError: Slurm rejects it.
    """
    executor = SlurmExecutor(folder, python=interpreter())
    executor.update_parameters(**parameters)
    try:
        jobs = executor.map_array(work, [directory.absolute() for directory in directories])
    except FailedJobError as error:
        reason = " ".join(str(error).split()).removeprefix("sbatch: error: ")
        raise UserError(f"Slurm rejected the job: {reason}; launcher.dry_run=true shows the script") from None
    found = {job.job_id: directory for job, directory in zip(jobs, directories, strict=True)}
    console.print(f"submitted to Slurm: {' '.join(found)}; logs in {folder}", soft_wrap=True)
    return found


def follow(jobs: dict[str, Path], session: Path) -> None:
    """Wait until the jobs have left the queue; print how many run, and keep the session's table up to date."""
    left, interval, said = dict(jobs), FIRST_LOOK, ""
    while left:
        states = queued(left)
        over = [job for job in left if job not in states]
        for job in over:
            conclude(job, left.pop(job), session)
        running = Counter(states.values())["RUNNING"]
        line = f"jobs: {len(jobs) - len(left)} done, {running} running, {len(left) - running} waiting"
        if line != said:
            console.print(line)
        if over and left:
            fill_table(session)
        said, interval = line, min(LONGEST, 1.2 * interval)
        time.sleep(interval if left else 0)


def queued(jobs: dict[str, Path]) -> dict[str, str]:
    """Return job id -> state of the jobs that wait or run; of all jobs if Slurm does not respond."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(arrays(jobs))}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:  # all have ended and are forgotten, or the controller is down
        return {} if "Invalid job id" in answer.stderr else dict.fromkeys(jobs, "UNKNOWN")
    states = dict(line.split() for line in answer.stdout.splitlines())
    return {job: state for job, state in states.items() if job in jobs}


def conclude(job: str, directory: Path, session: Path) -> None:
    """Report a job's errors, and record it if it left no outcome: it was cancelled, or its node failed."""
    outcome = Outcome(**read_json(directory / "job.json"))
    for error in outcome.errors:
        console.print(f"error: {error}", style="red", soft_wrap=True)
    if not outcome.errors and not any("ended" in attempt for attempt in outcome.attempts[-1:]):
        outcome.fail(CRASH, f"job {job} ended without an outcome: cancelled, or its node failed; see {session}/slurm")
        keep(outcome, directory)
