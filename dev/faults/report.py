"""Results by kind of fault and by subject, as Markdown and JSON."""

import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recipes.config import write_json, write_text


@dataclass
class Tally:
    """Results so far."""

    suffered: dict[str, int] = field(default_factory=dict)  # "kind, subject" -> faults that happened
    lost: dict[str, int] = field(default_factory=dict)  # of these, faults in lives that did not recover
    skipped: dict[str, str] = field(default_factory=dict)  # kind -> why this machine cannot do it
    failures: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.time)  # seconds since the epoch

    @property
    def total(self) -> int:
        """How many faults have happened."""
        return sum(self.suffered.values())

    @property
    def recovered(self) -> int:
        """How many faults were recovered from."""
        return self.total - sum(self.lost.values())


def write(tally: Tally, seed: int, directory: Path) -> str:
    """Write faults.md and faults.json; return the table."""
    minutes = round((time.time() - tally.began) / 60, 1)
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    values = {"seed": seed, "machine": machine, "minutes": minutes, "total": tally.total}
    values |= {"recovered": tally.recovered, **asdict(tally)}
    write_json(directory / "faults.json", values)
    lines = [f"{tally.recovered} of {tally.total} recovered, in {minutes} minutes ({machine}, seed {seed})."]
    lines += ["", "| fault | happened | recovered |", "|---|---:|---:|"]
    for title, place in (("", 0), ("*in* ", 1)):
        for name in sorted({key.split(", ")[place] for key in tally.suffered}):
            happened, lost = (count(found, place, name) for found in (tally.suffered, tally.lost))
            lines.append(f"| {title}{name} | {happened} | {happened - lost} |")
    lines += ["", *(f"Skipped: {kind} ({reason})." for kind, reason in tally.skipped.items())]
    lines += [
        f"Life {found['life']} ({found['subject']}): {found['wrong']}; {found['command']}" for found in tally.failures
    ]
    text = "\n".join(lines).rstrip() + "\n"
    write_text(directory / "faults.md", text)
    return text


def count(found: dict[str, int], place: int, name: str) -> int:
    """Sum over the keys that have this name at this position."""
    return sum(number for key, number in found.items() if key.split(", ")[place] == name)
