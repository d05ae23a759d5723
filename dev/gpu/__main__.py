"""`make gpu`: all that only a GPU can tell, in order of worth, in so many minutes; the same command goes on.

    make gpu MINUTES=15 PAIRS=pairs.jsonl TOKENIZER=directory

Every measurement runs in a process of its own under a time limit. Its outcome is in gpu.json the moment it is there;
the page, gpu.md, is made of all of them at the end. What could not be measured says why. Typed again, measurements that
are there are kept. Without a GPU tiny shapes rehearse every part.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.bench.report import environment
from dev.gpu.job import LATE, MEASURED, Job, Outcome, run
from dev.gpu.page import publish
from dev.gpu.plan import SHARES, Options, jobs
from launch.config.machine import gpu_memories
from recipes.config import UserError, read_json, write_json

FULL = 15.0  # minutes that SHARES' limits are made for
LOOKING = 300  # seconds that looking at the machine may take
LEAST = 0.02  # of all minutes: with less left no job is begun
console = Console(highlight=False, markup=False)


def options(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.gpu", description=__doc__)
    add: Any = parser.add_argument
    add("--minutes", type=float, default=FULL, help="for everything; what is not reached is said (default: 15)")
    add("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    add("--repeats", type=int, default=1, help="of each speed, each on its own pairs")
    add("--pairs", help="a file of preference pairs, for hh-rlhf's lengths (default: made lengths)")
    add("--tokenizer", help="a directory whose ids the model has")
    add("--output", type=Path, default=Path("docs"), help="where gpu.json, gpu.md, the plot and gpu.log go")
    return parser.parse_args(words)


def refuse(given: argparse.Namespace) -> None:
    """Refuse what could not be measured.

    Raises:
        UserError: naming the option and what may stand there.
    """
    if given.minutes <= 0:
        raise UserError(f"--minutes must be above 0 (got {given.minutes:g})")
    if given.repeats < 1:
        raise UserError(f"--repeats must be at least 1 (got {given.repeats})")
    if bool(given.pairs) != bool(given.tokenizer):
        raise UserError("--pairs and --tokenizer go together: a file of preference pairs, and a tokenizer for it")
    for name in ("pairs", "tokenizer"):
        path = getattr(given, name)
        if path and not Path(path).exists():
            raise UserError(f"--{name} {path} does not exist")


def begin(given: argparse.Namespace, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the results so far: those of an earlier call on the same kind of machine, or none.

    Raises:
        UserError: the file holds another machine's.
    """
    path = given.output / "gpu.json"
    if not path.exists():
        return {"machine": machine, "jobs": {}}
    results = read_json(path)
    same = all(results["machine"][name] == machine[name] for name in ("device", "versions"))
    if not same:
        raise UserError(f"{path} has results of {results['machine']['device']}: move it, or choose another --output")
    return results


def turns(wanted: list[Job], parts: list[str], started: float, seconds: float) -> Iterator[Job]:
    """Yield jobs until the time is up: of each part while its share lasts, then what is left, in order."""
    left = [job for job in wanted if job.part in parts]
    for part in (*parts, None):
        until = time.monotonic() + SHARES[part][0] * seconds if part else started + seconds
        for job in [job for job in left if part in (job.part, None)]:
            if time.monotonic() < min(until, started + (1 - LEAST) * seconds):
                left.remove(job)
                yield job


def look(log: Path) -> tuple[dict[str, Any], str]:
    """Return the machine, and how jobs are started on it so that they can use its GPU.

    Where a library touches the GPU as it is imported, a process forked after that cannot use it.

    Raises:
        UserError: there is a GPU, and PyTorch cannot use it.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking whether there is a GPU touches it otherwise
    expected = bool(gpu_memories())
    outcome: Outcome = {}
    for method in ("forkserver", "spawn"):
        outcome = run(Job("machine", method, environment), LOOKING, log, method)
        if outcome["status"] == MEASURED and expected <= (outcome["figures"]["gpu"] is not None):
            return outcome["figures"], method
    reason = outcome.get("reason", "torch.cuda.is_available() is False")
    raise UserError(f"nvidia-smi shows a GPU that PyTorch cannot use ({reason}); {log} has the whole: check the driver")


def measure(given: argparse.Namespace, wanted: list[Job], results: dict[str, Any], method: str) -> None:
    """Run what is not there yet, and write each outcome at once."""
    started, seconds = time.monotonic(), 60 * given.minutes
    log = given.output / "gpu.log"
    todo = [job for job in wanted if results["jobs"].get(job.key, {}).get("status") != MEASURED]
    for job in todo:
        results["jobs"][job.key] = {"status": LATE, "reason": "not reached: the same command goes on", "seconds": 0}
    for job in turns(todo, given.parts, started, seconds):
        remaining = started + seconds - time.monotonic()
        limit = min(SHARES[job.part][1] / FULL * max(seconds, 300), remaining)
        outcome = run(job, limit, log, method)
        results["jobs"][job.key] = outcome
        write_json(given.output / "gpu.json", results)
        console.print(f"{time.monotonic() - started:5.0f} s  {job.key}: {line(outcome)}", soft_wrap=True)


def line(outcome: Outcome) -> str:
    """Return an outcome in a few words."""
    reason = f" ({outcome['reason']})" if "reason" in outcome else ""
    return f"{outcome['status']}{reason}, {outcome['seconds']:.1f} s"


def main(words: list[str]) -> int:
    """Measure, and return the exit status: 0, 1 where a measurement failed, 2 for wrong input."""
    given = options(words)
    try:
        refuse(given)
        given.output.mkdir(parents=True, exist_ok=True)
        machine, method = look(given.output / "gpu.log")
        console.print(f"{machine['device']}; what the measurements print goes to {given.output / 'gpu.log'}")
        results = begin(given, machine)
        gpu = machine["gpu"] is not None
        measure(given, jobs(gpu, Options(given.repeats, given.pairs, given.tokenizer)), results, method)
        publish(results, given.output)
    except UserError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    counts = {status: sum(of["status"] == status for of in results["jobs"].values()) for status in (MEASURED, "failed")}
    console.print(f"{counts[MEASURED]} of {len(results['jobs'])} measured; wrote {given.output / 'gpu.md'}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
