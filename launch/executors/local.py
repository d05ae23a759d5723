"""Run jobs on this machine, each in its own process, as many at once as the devices allow.

`concurrent.futures` runs the jobs: a thread takes a job, borrows its devices, starts `executors.worker` on the job's
directory and waits. Other libraries start processes too, but do not assign devices: submitit's local executor gives
every job the first devices of its list, starts all at once, and leaves them running when the launcher is killed;
joblib's workers serve several jobs each, so that one crash ends several. Ray assigns devices, but needs a service with
daemons, too much for what takes forty lines here.
"""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from launch.config.machine import gpu_memories, visible_devices
from launch.config.schema import Config
from launch.executors.job import Outcome, keep
from launch.executors.queue import Queue
from launch.executors.report import fill_table
from launch.executors.shared import shared_rounds
from launch.stages.command import module
from launch.stages.processes import start, stop, warm_up
from recipes.config import UserError, read_json
from recipes.system.commands import console, progress
from recipes.system.errors import CRASH

THREADS = os.environ.get("OMP_NUM_THREADS")  # of every process, where the user gave a number
INTERVAL = 0.1  # seconds between two checks of a job


class Devices:
    """The devices that jobs may use; each is lent to one job at a time."""

    def __init__(self, names: list[str]) -> None:
        self.free = list(names)
        self.borrowers = 0
        self.returned = threading.Condition()
        self.stopping = threading.Event()  # no further job starts, and running ones are stopped

    @contextmanager
    def lend(self, count: int) -> Iterator[list[str]]:
        """Wait for `count` free devices, and take them back at the end."""
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
        """Let running jobs write a checkpoint and end, and wait for them."""
        self.stopping.set()
        with self.returned:
            self.returned.wait_for(lambda: not self.borrowers)


def run_queue(session: Path, queue: Queue) -> bool:
    """Run a session's jobs to their end; always return True, for there were jobs.

    Raises:
        UserError: a job needs more devices than there are.
        KeyboardInterrupt: the user stopped it; running jobs have written a checkpoint.
    """
    configs = list(queue.values())
    names = device_names(configs)
    for config in configs:
        needed(config, names)  # rejects jobs that need more devices than there are, before any starts
    together = jobs_together(configs, names)
    prepare(together, max(config.hardware.processes for config in configs))
    where = f" on devices {' '.join(names)}" if names else ""
    console.print(f"{len(queue)} jobs, {together} at once{where}; logs in {session}/<job>/log.txt", soft_wrap=True)
    devices, rounds = Devices(names), [*shared_rounds(session, queue), queue]
    with ThreadPoolExecutor(together) as pool, progress(sum(map(len, rounds)), "jobs", console) as advance:
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
            console.print("stopped: run the same command to train the rest")
            raise
    return True


def device_names(configs: list[Config]) -> list[str]:
    """Return the devices to lend: those named, else those that CUDA would see; none if jobs train on CPUs.

    Raises:
        UserError: jobs of one sweep name different ones, or CUDA_VISIBLE_DEVICES names one twice.
    """
    launchers = [config.launcher for config in configs]
    if any(launcher != launchers[0] for launcher in launchers):
        raise UserError("launcher.devices and launcher.at_once apply to the whole sweep: give one value of each")
    if launchers[0].devices is not None:
        return launchers[0].devices
    if all(config.hardware.use_cpu for config in configs):
        return []
    names = visible_devices(len(gpu_memories()))
    if len({*names}) < len(names):
        raise UserError(f"CUDA_VISIBLE_DEVICES={','.join(names)}: name each device once, such as 0,1")
    return names


def needed(config: Config, names: list[str]) -> int:
    """Return how many devices a job borrows: one for each process, or none if it trains on unnamed CPUs.

    Raises:
        UserError: there are fewer, or the job needs several nodes.
    """
    hardware = config.hardware
    if hardware.nodes > 1:
        raise UserError(f"hardware.nodes={hardware.nodes}: launcher=local has only this machine; use launcher=slurm")
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
    """Give every process its share of the cores, unless the user set it: each would start a thread for every core.

    Where jobs are forked from a warm process, start its imports in this thread: the process ends with its starter.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // (jobs * processes))
    if THREADS is None:  # a sweep after another has its own share
        os.environ["OMP_NUM_THREADS"] = str(threads)
    if not gpu_memories():
        warm_up()


def run(directory: Path, need: int, devices: Devices) -> None:
    """Run one job on borrowed devices, in its own process."""
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
    """Report a job's outcome, and record it where the job could not: it crashed, or was killed."""
    outcome = Outcome(**read_json(directory / "job.json"))
    for error in outcome.errors:
        console.print(f"error: job {directory.name}: {error}", style="red", soft_wrap=True)
    if status and not outcome.errors:
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        outcome.fail(CRASH, f"job {directory.name} {ended}; its log is {directory / 'log.txt'}")
        keep(outcome, directory)
    elif not outcome.errors:
        console.print(f"job {directory.name}: done")
