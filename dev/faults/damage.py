"""Damage files: write random bytes at a random position, or truncate there."""

import os
from pathlib import Path
from random import Random

# What is damaged, and whether the command must have finished before.
TARGETS: dict[str, tuple[tuple[str, ...], bool]] = {
    "checkpoint": (("[!_]*/*/*/checkpoint-*/*",), False),
    "config": (("[!_]*/*/*/config.yaml",), False),
    "record": (("[!_]*/*/*/record.json",), True),
    "cache": (("_pairs/*/*.json", "_pairs/*/*/*"), True),
    "base": (("pocket/base-*/model/*",), True),
}
EVALUATED = {
    "answers": (("[!_]*/*/*/eval/answers.jsonl",), True),
    "measurements": (("[!_]*/*/*/eval/[0-9a-f]*.json",), True),
}
LENGTH = 16  # bytes


def damage(target: str, runs: Path, random: Random) -> Path | None:
    """Damage one file of a kind; return it, or None if there is none."""
    patterns, _ = {**TARGETS, **EVALUATED}[target]
    files = sorted(path for pattern in patterns for path in runs.glob(pattern) if path.is_file())
    if target == "checkpoint":  # the newest: older ones are not read while it is undamaged
        newest = max((number(path) for path in files), default=0)
        files = [path for path in files if number(path) == newest]
    files = [path for path in files if path.stat().st_size]
    if not files:
        return None
    file = random.choice(files)
    place = random.randrange(file.stat().st_size)
    if random.random() < 0.3:
        os.truncate(file, place)
    else:
        with file.open("r+b") as opened:
            opened.seek(place)
            opened.write(random.randbytes(LENGTH))
    return file


def number(path: Path) -> int:
    """Return the optimizer step of the checkpoint that a file belongs to."""
    return int(path.parent.name.split("-")[1])
