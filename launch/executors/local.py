"""Jobs on this machine, each in a process of its own, as many at once as there are devices for.

The engine is `concurrent.futures`: a thread takes a job, borrows its devices, starts `executors.worker` on the job's
directory and waits. Other engines start processes too, but place none: submitit's local executor gives every job the
first devices of its list, starts all at once, and leaves them behind when the launcher is killed; joblib's workers
serve several jobs each, so that one's crash takes others with it. Ray places jobs, but as a service with daemons of
its own, which is much for what is forty lines here.
"""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from launch.config.machine import gpu_memories
from launch.config.schema import Config
from launch.executors.job import Outcome, keep
from launch.executors.queue import Queue
from launch.executors.report import fill_table
from launch.executors.shared import shared_rounds
from launch.stages.command import module
from launch.stages.processes import start, stop, warm_up
from launch.stages.progress import counting
from recipes.config import UserError, read_json
from recipes.system.commands import console
from recipes.system.errors import CRASH

INTERVAL = 0.1  # seconds between two looks at a job


class Devices:
    """The devices that jobs may use, each lent to one job at a time."""

    def __init__(self, names: list[str]) -> None:
        self.free = list(names)
        self.borrowers = 0
        self.returned = threading.Condition()
        self.stopping = threading.Event()  # no further job starts, and those that run are told to stop

    @contextmanager
    def lend(self, count: int) -> Iterator[list[str]]:
        """Wait for `count` free devices, and take them back in the end."""
        with self.returned:
            self.returned.wait_for(lambda: len(self.free) >= count)
            lent, self.free = self.free[:count], self.free[count:]
            self.borrowers += 1
        try:
            yield lent
        finally:
            with self.returned:
                self.free += lent
                self.borrowers -= 1
                self.returned.notify_all()

    def stop(self) -> None:
        """Have running jobs write a checkpoint and end, and wait until they have."""
        self.stopping.set()
        with self.returned:
            self.returned.wait_for(lambda: not self.borrowers)


def run_queue(session: Path, queue: Queue) -> bool:
    """Run a session's jobs to their end; return that there were any.

    Raises:
        UserError: a job wants more devices than there are.
        KeyboardInterrupt: the user stopped it; jobs that ran have written a checkpoint.
    """
    configs = list(queue.values())
    names = device_names(configs)
    for config in configs:
        needed(config, names)  # refuses what no device is there for, before any job starts
    together = jobs_together(configs, names)
    prepare(together, max(config.hardware.processes for config in configs))
    where = f" on devices {' '.join(names)}" if names else ""
    console.print(f"{len(queue)} jobs, {together} at once{where}; logs in {session}/<job>/log.txt", soft_wrap=True)
    devices, rounds = Devices(names), [*shared_rounds(session, queue), queue]
    with ThreadPoolExecutor(together) as pool, counting(sum(map(len, rounds)), "jobs", console) as advance:
        try:
            for jobs in rounds:
                running = [pool.submit(run, place, needed(config, names), devices) for place, config in jobs.items()]
                for job in as_completed(running):
                    job.result()
                    advance()
                    if not all(other.done() for other in running):
                        fill_table(session)
        except BaseException:
            devices.stop()
            pool.shutdown(cancel_futures=True)
            console.print("stopped: the same command trains what is missing")
            raise
    return True


def device_names(configs: list[Config]) -> list[str]:
    """Return the devices that are lent: those named, else those that CUDA would see; none where jobs train on CPUs.

    Raises:
        UserError: jobs of one sweep name different ones, or CUDA_VISIBLE_DEVICES one twice.
    """
    launchers = [config.launcher for config in configs]
    if any(launcher != launchers[0] for launcher in launchers):
        raise UserError("launcher.devices and launcher.at_once belong to the whole sweep: give each one value")
    if launchers[0].devices is not None:
        return launchers[0].devices
    if all(config.hardware.use_cpu for config in configs):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(len(gpu_memories()))]
    names = list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, visible.split(","))))  # as CUDA reads it
    if len({*names}) < len(names):
        raise UserError(f"CUDA_VISIBLE_DEVICES={visible}: name each device once, such as 0,1")
    return names


def needed(config: Config, names: list[str]) -> int:
    """Return how many devices a job borrows, one for each of its processes; none where it trains on unnamed CPUs.

    Raises:
        UserError: there are not as many, or the job is one of several nodes.
    """
    hardware = config.hardware
    if hardware.nodes > 1:
        raise UserError(f"hardware.nodes={hardware.nodes}: launcher=local is this machine alone; use launcher=slurm")
    if not names and hardware.use_cpu:
        return 0
    if hardware.processes > len(names):
        raise UserError(
            f"hardware={hardware.name} has {hardware.processes} processes, and launcher=local {len(names)} "
            f"devices{': ' * bool(names)}{','.join(names)}: set hardware.processes, or launcher.devices=[0,1,…]"
        )
    return hardware.processes


def jobs_together(configs: list[Config], names: list[str]) -> int:
    """Return how many jobs can run at the same time."""
    fewest = min(config.hardware.processes for config in configs)
    wanted = configs[0].launcher.at_once or max(1, len(names))
    return min(wanted, len(configs), len(names) // fewest if names else wanted)


def prepare(jobs: int, processes: int) -> None:
    """Give every process its share of the cores, unless the user said otherwise: each would start a thread for all.

    Then begin to import, where jobs are forked from a warm process; in this thread, since it ends with its starter.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // (jobs * processes))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if not gpu_memories():
        warm_up()


def run(directory: Path, need: int, devices: Devices) -> None:
    """Run one job on borrowed devices, in a process that no other job shares."""
    with devices.lend(need) as lent:
        if devices.stopping.is_set():
            return
        environment = dict(os.environ) | ({"CUDA_VISIBLE_DEVICES": ",".join(lent)} if lent else {})
        console.print(f"job {directory.name}: started{' on ' * bool(lent)}{','.join(lent)}")
        process = start(
            module("launch.executors.worker", directory), directory / "log.txt", environment, not gpu_memories()
        )
        while process.poll() is None:
            if devices.stopping.wait(INTERVAL):
                stop(process)
    conclude(directory, process.returncode)


def conclude(directory: Path, status: int | None) -> None:
    """Tell what became of a job, and note it where the job could not: it crashed, or was killed."""
    outcome = Outcome(**read_json(directory / "job.json"))
    for error in outcome.errors:
        console.print(f"error: job {directory.name}: {error}", style="red", soft_wrap=True)
    if status and not outcome.errors:
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        outcome.fail(CRASH, f"job {directory.name} {ended}; its log is {directory / 'log.txt'}")
        keep(outcome, directory)
    elif not outcome.errors:
        console.print(f"job {directory.name}: done")
