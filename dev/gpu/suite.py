"""The measurements of `make gpu`, in turns."""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.bench.report import environment
from dev.gpu.job import FAILED, MEASURED, SHARES, Job, Outcome, run
from dev.gpu.page import publish
from dev.gpu.plan import Options, jobs
from dev.gpu.store import begin, keep, read, todo
from launch.config.machine import first_device, gpu_memories
from recipes.config import UserError

LOOKING = 300  # seconds to inspect the machine
LEAST = 0.02  # share of all minutes: with less left no job starts
console = Console(highlight=False, markup=False)


def turns(wanted: list[Job], parts: list[str], started: float, seconds: float) -> Iterator[Job]:
    """Yield jobs until the time is up: each part's until its share has passed, then the rest, in order."""
    left, until = list(wanted), started
    for part in (*parts, None):
        until = until + SHARES[part][0] * seconds if part else started + seconds
        for job in [job for job in left if part in (job.part, None)]:
            if time.monotonic() < min(until, started + (1 - LEAST) * seconds):
                left.remove(job)
                yield job


def look(log: Path) -> tuple[dict[str, Any], str]:
    """Return the machine, and the start method with which jobs can use its GPU.

    If a library initializes the GPU at import, a process forked afterwards cannot use it.

    Raises:
        UserError: the libraries cannot be loaded, or there is a GPU that PyTorch cannot use.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # otherwise checking for a GPU initializes it
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded; without a network every request would wait
    expected = bool(gpu_memories())
    os.environ["CUDA_VISIBLE_DEVICES"] = first_device()  # a trainer would split its batches over several
    outcome: Outcome = {}
    for method in ("forkserver", "spawn"):
        outcome = run(Job("machine", method, environment), LOOKING, log, method)
        if outcome["status"] == MEASURED and expected <= (outcome["figures"]["gpu"] is not None):
            return outcome["figures"], method
    reason = outcome.get("reason", "torch.cuda.is_available() is False")
    what = "nvidia-smi shows a GPU that PyTorch cannot use" if expected else "the libraries could not be loaded"
    raise UserError(f"{what} ({reason}); full output in {log}")


def measure(given: argparse.Namespace, results: dict[str, Any], method: str, started: float) -> None:
    """Run the jobs that are not measured yet; write outcomes and page at once."""
    data = Options(given.repeats, given.pairs, given.tokenizer)
    wanted = todo(results, jobs(results["machine"]["gpu"] is not None, data), given.parts)
    seconds = 60 * given.minutes
    for job in turns(wanted, given.parts, started, seconds):
        remaining = started + seconds - time.monotonic()
        outcome = run(job, min(60 * SHARES[job.part][1], remaining), given.output / "gpu.log", method)
        keep(given.output / "gpu.json", results, job, outcome)
        try:
            publish(results, given.output)
        except Exception as error:  # whatever it is, the minutes with a GPU go to what is still to be measured
            console.print(f"the page could not be written ({type(error).__name__}: {error})", soft_wrap=True)
        console.print(f"{time.monotonic() - started:5.0f} s  {job.key}: {line(outcome)}", soft_wrap=True)


def line(outcome: Outcome) -> str:
    """Return an outcome in a few words."""
    reason = f" ({outcome['reason']})" if "reason" in outcome else ""
    return f"{outcome['status']}{reason}, {outcome['seconds']:.1f} s"


def gpu(given: argparse.Namespace, started: float) -> int:
    """Measure what is not measured yet, and write the page; return the exit status: 0, or 1 where one failed.

    Raises:
        UserError: gpu.json is of another machine, or this one cannot be used.
    """
    path = given.output / "gpu.json"
    found = read(path)
    machine, method = look(given.output / "gpu.log")
    what = machine["device"] if machine["gpu"] else f"{machine['device']}: no GPU found, a dry run on tiny models"
    console.print(f"{what}; full output in {given.output / 'gpu.log'}", soft_wrap=True)
    names = {
        name: value and Path(value).name for name, value in (("pairs", given.pairs), ("tokenizer", given.tokenizer))
    }
    results = begin(path, found, machine, names)
    measure(given, results, method, started)
    publish(results, given.output)
    counts = {status: sum(of["status"] == status for of in results["jobs"].values()) for status in (MEASURED, FAILED)}
    console.print(
        f"{counts[MEASURED]} of {len(results['jobs'])} measured; wrote {given.output / 'gpu.md'}", soft_wrap=True
    )
    return 1 if counts[FAILED] else 0
