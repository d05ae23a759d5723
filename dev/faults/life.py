"""One life: a command is broken, run again, broken again, and at last left to finish; then the result is checked."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from dev.faults import mounts
from dev.faults.check_runs import complaints
from dev.faults.damage import EVALUATED, TARGETS, damage
from dev.faults.kills import PATIENCE, SIGNALS, choose, hit, lost_rank, survivors, wait_for
from dev.faults.schedule import Fault, Life
from dev.faults.subjects import SUBJECTS, command, start

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens
OUTAGE = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": NOWHERE, "WANDB_BASE_URL": NOWHERE, "WANDB_API_KEY": "0" * 40}
TRIES = 6  # fresh starts in which a fault may come too late


class NotRecovered(Exception):
    """A fault was not recovered from."""


@dataclass(frozen=True)
class Undisturbed:
    """The result of an undisturbed run, and its disk space."""

    weights: dict[str, bytes]
    kilobytes: int


class Patient:
    """A runs directory during a life."""

    def __init__(self, life: Life, work: Path, expected: Undisturbed, seed: int) -> None:
        self.life, self.expected = life, expected
        self.random = Random(f"life {seed} {life.number}")
        self.place = work / f"life-{life.number:03}"
        self.runs, self.log = self.place / "runs", self.place / "printed.txt"
        self.words = command(life.subject, work / "inputs", self.runs)
        self.mark = str(self.place)

    def live(self, suffered: Callable[[Fault], None]) -> None:
        """Inject all faults, in as many fresh directories as needed; call `suffered` for those recovered from.

        Raises:
            NotRecovered: the message says what is wrong; the directory is kept.
        """
        pending, tries = list(self.life.faults), 0
        while pending:
            shutil.rmtree(self.place, ignore_errors=True)
            self.runs.mkdir(parents=True)
            before = len(pending)
            while pending and self.suffer(pending[0]):
                suffered(pending.pop(0))
            self.finish()
            if wrong := complaints(self.runs, self.expected.weights):
                raise NotRecovered("; ".join(wrong[:3]))
            tries = 0 if len(pending) < before else tries + 1
            if tries == TRIES:
                raise NotRecovered(f"{pending[0]} came too late {tries} times")
        shutil.rmtree(self.place)

    def suffer(self, fault: Fault) -> bool:
        """Inject a fault; return False if the command had already ended."""
        if fault.kind in SIGNALS or fault.kind == "lost rank":
            return self.kill(fault)
        if fault.kind.startswith("damaged "):
            return self.damage(fault.kind.removeprefix("damaged "))
        if fault.kind == "full disk":
            return self.fill_disk()
        if fault.kind == "read-only directory":
            return self.lock_disk()
        if fault.kind == "killed rival":
            return self.kill_rival()
        words = [f"{stage}.report_to=wandb" for stage in SUBJECTS[self.life.subject].stages]
        self.end(start([*self.words, *words], self.log, self.mark, **OUTAGE), {0})
        return True

    def kill(self, fault: Fault) -> bool:
        """Kill a process of the command at a moment of its life."""
        process = start(self.words, self.log, self.mark)
        if not wait_for(fault.moment, self.runs, process, self.random):
            self.end(process, {0})
            return False
        victim = choose(fault.victim, process.pid, self.mark, self.random)
        if fault.kind == "lost rank":
            victim = lost_rank(self.mark, self.random) or victim
        hit("KILL" if fault.kind == "lost rank" else fault.kind, victim, self.random)
        self.end(process)
        return True

    def kill_rival(self) -> bool:
        """Run the command twice at once, and kill one of them: the other takes over its claim."""
        rivals = [start(self.words, self.log, self.mark) for _ in range(2)]
        self.random.shuffle(rivals)
        came = wait_for("training", self.runs, rivals[0], self.random)
        hit("KILL", rivals[0].pid, self.random)
        rivals[0].wait()
        self.end(rivals[1], {0})
        return came

    def damage(self, target: str) -> bool:
        """Damage a file of a command that was killed, or has finished."""
        _, finished = {**TARGETS, **EVALUATED}[target]
        if finished:
            self.finish()
        file = damage(target, self.runs, self.random)
        if not file and not finished and self.kill(Fault("KILL")):  # of a command that has come this far
            file = damage(target, self.runs, self.random)
        self.note(f"damaged {file}")
        return file is not None

    def fill_disk(self) -> bool:
        """Run the command on a disk that is too small at first."""
        size = round(self.expected.kilobytes * self.random.uniform(0.05, 1))
        shutil.rmtree(self.runs)
        self.runs.mkdir()
        self.note(f"a disk of {size} kB")
        self.end(start(mounts.full_disk(self.words, self.runs, size), self.log, self.mark), {0})
        first, second = map(int, Path(f"{self.runs}.status").read_text().split())
        if first not in (0, 2) or second:
            raise NotRecovered(f"exit status {first} on the full disk, {second} once there was room")
        shutil.rmtree(self.runs)
        Path(f"{self.runs}.kept").rename(self.runs)
        return first == 2

    def lock_disk(self) -> bool:
        """Run the command without write permission; even one that would only write its session fails."""
        self.end(start(mounts.read_only(self.words, self.runs), self.log, self.mark), {2})
        return True

    def finish(self) -> None:
        """Run the command once more, undisturbed."""
        self.end(start(self.words, self.log, self.mark), {0})

    def end(self, process: "subprocess.Popen[bytes]", wanted: set[int] | None = None) -> None:
        """Wait until a command ends.

        Raises:
            NotRecovered: it does not end, ends with another exit status, or leaves a process behind.
        """
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            survivors(self.mark, 0)
            process.wait()
            raise NotRecovered(f"it did not end in {PATIENCE} s") from None
        self.note(f"exit status {status}")
        if left := survivors(self.mark):
            raise NotRecovered(f"{len(left)} processes outlived the launcher")
        if wanted and status not in wanted:
            raise NotRecovered(f"exit status {status} where {wanted} is right")

    def note(self, line: str) -> None:
        """Write a line to the command's log."""
        with self.log.open("a") as file:
            file.write(f"--- {line}\n")
