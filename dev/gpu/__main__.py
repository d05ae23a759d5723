"""`make gpu`: all that only a GPU can show, by priority, within a time limit; the same command resumes.

    make gpu MINUTES=15 PAIRS=pairs.jsonl TOKENIZER=directory

Every measurement runs in its own process under a time limit. Its outcome is written to gpu.json, and to the page
gpu.md, at once. What could not be measured is listed with the reason. The same command keeps measurements and resumes;
on a machine that loses its files, name an --output that is kept, and copy its gpu.json back. Without a GPU it is a dry
run on tiny models.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.bench.report import environment
from dev.gpu.job import FAILED, MEASURED, Job, Outcome, run
from dev.gpu.page import publish
from dev.gpu.plan import SHARES, Options, jobs
from dev.gpu.store import begin, keep, read, todo
from launch.config.machine import gpu_memories
from recipes.config import UserError
from recipes.system.processes import interrupt_on_signals

LOOKING = 300  # seconds to inspect the machine
LEAST = 0.02  # share of all minutes: with less left no job starts
console = Console(highlight=False, markup=False)


def options(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.gpu", description=__doc__)
    add: Any = parser.add_argument
    add("--minutes", type=float, default=15.0, help="for everything; anything not reached is listed (default: 15)")
    add("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    add("--repeats", type=int, default=1, help="of each speed, each on its own pairs")
    add("--pairs", help="a file of preference pairs, for hh-rlhf's lengths (default: synthetic lengths)")
    add("--tokenizer", help="a directory whose ids the model has")
    add("--output", type=Path, default=Path("docs"), help="where gpu.json, gpu.md, the plot and gpu.log go")
    return parser.parse_args(words)


def refuse(given: argparse.Namespace) -> None:
    """Reject options that could not be measured.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    if not 0 < given.minutes < math.inf:
        raise UserError(f"--minutes {given.minutes:g}: a time above 0 is needed")
    if given.repeats < 1:
        raise UserError(f"--repeats {given.repeats}: at least 1 is needed")
    if bool(given.pairs) != bool(given.tokenizer):
        raise UserError("--pairs and --tokenizer go together: a file of preference pairs, and a tokenizer for it")
    if given.pairs and not Path(given.pairs).is_file():
        raise UserError(f"--pairs {given.pairs} is no file")
    if given.tokenizer and not Path(given.tokenizer).is_dir():
        raise UserError(f"--tokenizer {given.tokenizer} is no directory")
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {given.output} cannot be made ({error.strerror}): choose another directory"
        ) from None


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
        publish(results, given.output)
        console.print(f"{time.monotonic() - started:5.0f} s  {job.key}: {line(outcome)}", soft_wrap=True)


def line(outcome: Outcome) -> str:
    """Return an outcome in a few words."""
    reason = f" ({outcome['reason']})" if "reason" in outcome else ""
    return f"{outcome['status']}{reason}, {outcome['seconds']:.1f} s"


def main(words: list[str]) -> int:
    """Measure, and return the exit status: 0, 1 where a measurement failed, 2 for wrong input, 130 interrupted."""
    started = time.monotonic()
    interrupt_on_signals()
    given = options(words)
    path = given.output / "gpu.json"
    try:
        refuse(given)
        found = read(path)
        machine, method = look(given.output / "gpu.log")
        what = machine["device"] if machine["gpu"] else f"{machine['device']}: no GPU found, a dry run on tiny models"
        console.print(f"{what}; full output in {given.output / 'gpu.log'}", soft_wrap=True)
        names = {
            name: value and Path(value).name for name, value in (("pairs", given.pairs), ("tokenizer", given.tokenizer))
        }
        results = begin(path, found, machine, names)
        measure(given, results, method, started)
    except UserError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; what was measured is kept: run the same command again")
        return 130
    publish(results, given.output)
    counts = {status: sum(of["status"] == status for of in results["jobs"].values()) for status in (MEASURED, FAILED)}
    console.print(
        f"{counts[MEASURED]} of {len(results['jobs'])} measured; wrote {given.output / 'gpu.md'}", soft_wrap=True
    )
    return 1 if counts[FAILED] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
