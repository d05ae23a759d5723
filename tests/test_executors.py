"""What the launcher decides without starting anything: jobs together, cores of each, how often one is requeued."""

from collections.abc import Callable
from typing import Any

import pytest

from launch.config.schema import Config
from launch.executors import local, worker

Compose = Callable[..., Config]


@pytest.mark.parametrize(
    ("words", "jobs", "devices", "together"),
    [
        ([], 5, [], 1),  # on CPUs one, unless more are asked for
        (["launcher.at_once=3"], 5, [], 3),
        (["launcher.at_once=9"], 5, [], 5),
        ([], 5, ["0", "1", "2", "3"], 4),
        (["hardware.processes=2"], 5, ["0", "1", "2", "3"], 2),
        (["hardware.processes=2", "launcher.at_once=1"], 5, ["0", "1", "2", "3"], 1),
    ],
)
def test_as_many_jobs_run_together_as_devices_allow(
    compose: Compose, words: list[str], jobs: int, devices: list[str], together: int
) -> None:
    config = compose("launcher=local", "hardware=cpu", *words)
    assert local.jobs_together([config] * jobs, devices) == together


@pytest.mark.parametrize(("jobs", "processes", "threads"), [(1, 1, "8"), (2, 1, "4"), (2, 2, "2"), (8, 4, "1")])
def test_every_process_has_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, jobs: int, processes: int, threads: str
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(local.os, "environ", environment)
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(local, "warm_up", lambda: None)
    monkeypatch.setattr(local, "THREADS", None)
    for given in ((4, 4), (jobs, processes)):  # a second sweep of one command has its own share
        local.prepare(*given)
    assert environment["OMP_NUM_THREADS"] == threads
    environment["OMP_NUM_THREADS"] = "3"
    monkeypatch.setattr(local, "THREADS", "3")
    local.prepare(jobs, processes)
    assert environment["OMP_NUM_THREADS"] == "3", "what the user gave stays"


@pytest.mark.parametrize(("restarts", "again"), [(None, True), ("4", True), ("5", False), ("6", False)])
def test_a_job_out_of_time_is_queued_again_as_often_as_allowed(
    monkeypatch: pytest.MonkeyPatch, restarts: str | None, again: bool
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(worker.subprocess, "run", lambda command, **_: asked.append(command))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    if restarts:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    worker.requeue(5)
    assert asked == ([["scontrol", "requeue", "7"]] if again else [])
