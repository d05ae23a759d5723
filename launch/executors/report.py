"""Report a session's jobs: a summary at the end, and a table as they finish."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

from launch.stages.command import module
from recipes.config import read_json
from recipes.system.commands import console
from recipes.system.errors import CRASH
from recipes.system.files import remove_leftovers
from recipes.system.secrets import scrub


def report(directory: Path, evaluate: Callable[[Path], int]) -> int:
    """Summarize a session's jobs; evaluate what was trained, or print its table; return the exit status."""
    for place in (*directory.parent.glob("*"), *directory.parent.glob("*/*")):
        remove_leftovers(place)  # left by killed sessions
    for log in directory.parent.rglob("*log.*"):  # log.txt of a local job, *_log.out of one on a cluster
        scrub(log)
    jobs = [read_json(path) for path in sorted(directory.glob("*/job.json"), key=lambda path: int(path.parent.name))]
    if len(jobs) > 1:
        for number, found in enumerate(jobs):
            words = " ".join([*found["overrides"], f"seed={found['seed']}"])
            console.print(f"job {number}: {'; '.join(found['errors']) or 'done'}  ({words})", soft_wrap=True)
    status = max((found["status"] for found in jobs), default=CRASH)
    if any(found["evaluate"] and found["pipelines"] for found in jobs):
        status = max(status, evaluate(directory))
    elif not status:
        stages = dict.fromkeys(stage for found in jobs for stages in found["pipelines"].values() for stage in stages)
        console.print(f"trained: {' '.join(stages)}", soft_wrap=True)
        console.print(f"evaluate it with: make eval RUNS={directory}", soft_wrap=True)
    return status


def score(directory: Path) -> tuple[float, str]:
    """Return the mean reward of a finished job's pipeline on its held-out prompts, and what it is; NaN if it failed."""
    if read_json(directory / "job.json")["status"]:
        return math.nan, ""
    answer = subprocess.run(module("eval.commands.score", directory), capture_output=True, text=True, check=False)
    if answer.returncode:
        return math.nan, ""
    found = json.loads(answer.stdout)
    return found["score"], found["by"]


def fill_table(session: Path) -> None:
    """Write the table of what was measured so far, if anything."""
    if any(read_json(path)["evaluate"] for path in session.glob("*/job.json")):
        subprocess.run(module("eval.table", session), capture_output=True, check=False)


def write_page(session: Path) -> None:
    """Write a session's page, without a word."""
    subprocess.run(module("eval.report", session), capture_output=True, check=False)


def print_table(session: Path) -> int:
    """Print the table of what was evaluated, and write its page; return the exit status."""
    status = subprocess.run(module("eval.table", session), check=False).returncode
    return status or subprocess.run(module("eval.report", session), check=False).returncode
