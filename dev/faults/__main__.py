"""Break trainings at random, run the same command again, and compare the result with an undisturbed run.

    python -m dev.faults [--kills 200] [--seed 0] [--subjects sft dpo …] [--life N] [--workers 2] [--work DIR]

Exit status: 0 if every fault was recovered from. Others leave their directory under `--work`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dev.faults import mounts
from dev.faults.check_runs import weights
from dev.faults.kills import marked
from dev.faults.life import NotRecovered, Patient, Undisturbed
from dev.faults.report import Tally, write
from dev.faults.schedule import Fault, Life, plan
from dev.faults.subjects import SUBJECTS, command, make_inputs, start
from launch.stages.progress import Speed
from recipes.system.commands import output as console

OURS = ".faults"  # marks a directory that may be emptied
MOUNTED = ("full disk", "read-only directory")


def main(options: argparse.Namespace) -> int:
    """Run all lives; return the exit status."""
    tally = Tally()
    work = options.work.resolve()
    lives = [possible(life, tally) for life in plan(options.kills, options.seed, options.subjects)]
    lives = [life for life in lives if life.faults and options.life in (None, life.number)]
    make_ready(work)
    subjects = [
        subject for subject in reversed(SUBJECTS) if subject in {life.subject for life in lives}
    ]  # longest first
    with ThreadPoolExecutor(options.workers) as workers, bar() as progress:
        known = {}
        task = progress.add_task("undisturbed", total=len(subjects))
        for subject, ends in zip(
            subjects, workers.map(lambda subject: undisturbed(subject, work), subjects), strict=True
        ):
            known[subject] = ends
            progress.advance(task)
        task = progress.add_task("faults", total=sum(len(life.faults) for life in lives))
        treatment = Treatment(tally, options, lambda: progress.advance(task))
        list(workers.map(lambda life: treatment.give(life, work, known[life.subject]), lives))
    console.print(write(tally, options.seed, work))
    return 0 if tally.recovered == tally.total else 1


def stop(work: Path) -> None:
    """Kill all started processes at once; nobody needs their files."""
    for pid in marked(f"{work.resolve()}/", whole=False):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    console.print(f"stopped; results so far are in {work}/faults.md", soft_wrap=True)
    os._exit(130)  # threads still wait for killed processes, and would start them again


def possible(life: Life, tally: Tally) -> Life:
    """Return a life without the faults that this machine cannot make."""
    reason = mounts.impossible()
    kept = tuple(fault for fault in life.faults if not reason or fault.kind not in MOUNTED)
    tally.skipped |= {fault.kind: reason for fault in life.faults if reason and fault not in kept}
    return Life(life.number, life.subject, kept)


def make_ready(work: Path) -> None:
    """Empty the work directory and create the training inputs.

    Raises:
        SystemExit: the directory has files that are not from an earlier run.
    """
    if work.exists() and any(work.iterdir()) and not (work / OURS).exists():
        sys.exit(f"error: --work={work} has other files and would be emptied: name another directory")
    shutil.rmtree(work, ignore_errors=True)
    (work / "inputs").mkdir(parents=True)
    (work / OURS).touch()
    make_inputs(work / "inputs")


def undisturbed(subject: str, work: Path) -> Undisturbed:
    """Run a subject to its end without faults.

    Raises:
        subprocess.CalledProcessError: even that fails.
    """
    runs, log = work / "undisturbed" / subject, work / f"undisturbed-{subject}.txt"
    words = command(subject, work / "inputs", runs)
    status = start(words, log, str(runs)).wait()
    if status:
        raise subprocess.CalledProcessError(status, words, log.read_text())
    size = sum(file.stat().st_size for file in runs.rglob("*") if file.is_file())
    return Undisturbed(weights(runs), size // 1024)


class Treatment:
    """Runs lives, several at once, and keeps the tally."""

    def __init__(self, tally: Tally, options: argparse.Namespace, advance: Callable[[], None]) -> None:
        self.tally, self.seed, self.work, self.advance, self.lock = tally, options.seed, options.work, advance, Lock()
        self.repeat = f"python -m dev.faults --kills {options.kills} --seed {options.seed}"
        if options.subjects != list(SUBJECTS):
            self.repeat += f" --subjects {' '.join(options.subjects)}"

    def give(self, life: Life, work: Path, expected: Undisturbed) -> None:
        """Run one life, and record the outcome."""
        happened: list[Fault] = []

        def suffered(fault: Fault) -> None:
            happened.append(fault)
            self.advance()

        wrong = None
        try:
            Patient(life, work, expected, self.seed).live(suffered)
        except NotRecovered as error:
            wrong = str(error)
            happened = happened or [life.faults[0]]
        with self.lock:
            self.note(life, happened, wrong)
            write(self.tally, self.seed, work)  # after each life, as this program may be killed too

    def note(self, life: Life, happened: list[Fault], wrong: str | None) -> None:
        """Add one life to the tally."""
        for fault in happened:
            key = f"{fault.kind}, {life.subject}"
            self.tally.suffered[key] = self.tally.suffered.get(key, 0) + 1
            if wrong:
                self.tally.lost[key] = self.tally.lost.get(key, 0) + 1
        if wrong:
            again = f"{self.repeat} --life {life.number} --work {self.work}-again"
            found = {"life": life.number, "subject": life.subject, "wrong": wrong, "command": again}
            self.tally.failures.append(found | {"faults": [str(fault) for fault in happened]})
            console.print(f"life {life.number} ({life.subject}): {wrong}", soft_wrap=True)


def bar() -> Progress:
    """Return the progress bar: faults done, their rate, and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed())
    return Progress(*columns, TimeRemainingColumn(), console=console)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.faults", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200, help="random kills; the other faults come in proportion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--life", type=int, help="this one alone, after a failure")
    parser.add_argument("--workers", type=int, default=2, help="lives at once; one a core")
    parser.add_argument("--work", type=Path, default=Path("runs/_faults"))
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    try:
        sys.exit(main(given))
    except KeyboardInterrupt:
        stop(given.work)
