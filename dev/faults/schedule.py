"""The faults, determined by number and seed. Only the moment of a kill depends on the machine's speed."""

from collections import deque
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

from dev.faults.damage import EVALUATED, TARGETS
from dev.faults.kills import SIGNALS, VICTIMS
from dev.faults.subjects import SUBJECTS

LENGTH = 5  # maximum number of faults in a life
# Of a hundred kills, how many hit each subject; and per hundred kills, the number of other faults.
KILLS = {"sft": 22, "dpo": 24, "orpo": 25, "dpo-2": 4, "orpo-2": 6, "sweep": 18, "base": 1}
OTHERS = {"damaged checkpoint": 4, "damaged config": 2, "damaged record": 2, "damaged cache": 2, "damaged base": 0.5}
OTHERS |= {"damaged answers": 1, "damaged measurements": 1, "full disk": 2, "read-only directory": 1}
OTHERS |= {"lost rank": 2, "unreachable hub and tracker": 1, "killed rival": 1}
ALONE = ("full disk", "unreachable hub and tracker", "killed rival")  # faults that last for a whole command


@dataclass(frozen=True)
class Fault:
    """One fault; for a kill also the moment and the process."""

    kind: str
    moment: str = "training"
    victim: str = "launcher"


@dataclass(frozen=True)
class Life:
    """One runs directory: its subject, and its faults in order."""

    number: int
    subject: str
    faults: tuple[Fault, ...]


def plan(kills: int, seed: int, subjects: list[str]) -> list[Life]:
    """Return the lives: `kills` kills by the shares above, and the other faults in proportion."""
    random = Random(f"plan {seed}")
    total = sum(KILLS[subject] for subject in subjects)
    faults: dict[str, list[Fault]] = {}
    for subject, share in zip(subjects, shares(kills, [KILLS[subject] / total for subject in subjects]), strict=True):
        faults[subject] = kills_of(subject, share, random)
    for kind, share in OTHERS.items():
        able = deque(subject for subject in subjects if can(subject, kind))
        for _ in range(max(1, round(share * kills / 100)) if able else 0):
            faults[able[0]].append(Fault(kind))
            able.rotate(-1)
    lives = []
    for subject, found in faults.items():
        lives += [(subject, [fault]) for fault in found if fault.kind in ALONE]
        rest = [fault for fault in found if fault.kind not in ALONE]
        random.shuffle(rest)
        for place in range(0, len(rest), LENGTH):
            lives.append((subject, sorted(rest[place : place + LENGTH], key=needs_a_finished_command)))
    random.shuffle(lives)
    return [Life(number, subject, tuple(found)) for number, (subject, found) in enumerate(lives)]


def needs_a_finished_command(fault: Fault) -> bool:
    """Whether a fault damages the output of a finished command: such faults come last."""
    target = fault.kind.removeprefix("damaged ")
    return {**TARGETS, **EVALUATED}.get(target, ((), False))[1]


def shares(count: int, parts: list[float]) -> list[int]:
    """Divide a number into shares that add up to it."""
    ends = [round(count * sum(parts[: place + 1])) for place in range(len(parts))]
    return [end - before for end, before in zip(ends, [0, *ends], strict=False)]


def kills_of(subject: str, count: int, random: Random) -> list[Fault]:
    """Return kills, evenly by signal, at every moment, of every process."""
    signals = islice(cycle(SIGNALS), count)
    moments = SUBJECTS[subject].moments
    return [Fault(signal, random.choice(moments), random.choice(VICTIMS)) for signal in signals]


def can(subject: str, kind: str) -> bool:
    """Whether a fault can happen to a subject."""
    target = kind.removeprefix("damaged ")
    if "base" in (subject, target):  # whose pretraining takes longest
        return subject == target
    if kind == "lost rank":
        return subject.endswith("-2")
    return target in TARGETS or (target in EVALUATED and SUBJECTS[subject].evaluates) or target == kind
