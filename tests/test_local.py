"""Sweeps on this machine: one job a process, no device lent twice, a kill costs what was being trained, no more."""

import json
import os
import signal
from collections.abc import Callable
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from door import launch, short, stages, start, wait_for_step

Words = Callable[..., list[str]]
FOUR = ["launcher=local", "launcher.devices=[0,1,2,3]"]


def attempts(runs: Path) -> list[dict[str, Any]]:
    """Of all jobs: when each ran, and on which devices."""
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("_sessions/*/*/job.json"))]
    assert all(not job["errors"] for job in found), found
    return [
        {"devices": {*attempt["devices"].split(",")}}
        | {edge: datetime.fromisoformat(attempt[edge]) for edge in ("started", "ended")}
        for job in found
        for attempt in job["attempts"]
    ]


def test_a_sweep_lends_no_device_twice_and_a_killed_one_trains_only_what_was_missing(
    words: Words, tmp_path: Path
) -> None:
    """Six jobs of two devices each, four pretended devices; the whole process group is killed in the middle."""
    betas = "orpo.beta=0.1,0.2,0.3,0.4,0.5,0.6"
    options = words(tmp_path, *FOUR, "pipeline=orpo", betas, *short("orpo"), "hardware.processes=2", "batch_size=8")
    process = start("-m", *options)
    while len(list(tmp_path.glob("*/*/orpo-*/record.json"))) < 2:
        assert process.poll() is None, process.stdout and process.stdout.read()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
