"""Hardware profiles, and which of them fits the machine that the launcher runs on."""

import os
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from recipes.profiles import Hardware
from recipes.system.errors import UserError
from recipes.system.paths import ROOT

PROFILES = ROOT / "conf" / "hardware"
REPORTED = 0.95  # of its nominal memory a GPU reports at least so much: error correction and drivers keep some
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of a container, in /sys/fs/cgroup


def detect() -> str:
    """Return the profile for the NVIDIA GPUs that CUDA would see; cpu if none fits.

    Of those whose GPUs are there, by name alone (2x24gb is two of 24 GB): a profile that shards the model over them has
    all their memory, so the most memory wins. Else each GPU holds the whole model: the largest GPU wins, then the most.
    """
    every = gpu_memories()
    known = {str(number): memory for number, memory in enumerate(every)}
    memories = [known.get(name, min(every, default=0.0)) for name in visible_devices(len(every))]
    fitting: list[tuple[int, int, int, str]] = [(0, 0, 0, "cpu")]
    for count, size, name in plain_profiles():
        if sum(memory >= REPORTED * size for memory in memories) >= count:
            sharded = profile(name).strategy != "ddp"
            fitting.append((sharded * count * size, size, count, name))
    return max(fitting)[-1]


def visible_devices(count: int) -> list[str]:
    """Return the devices that CUDA would see of `count` GPUs: numbers, or names that CUDA_VISIBLE_DEVICES gives."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(count)]
    return list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, visible.split(","))))  # as CUDA does


def plain_profiles() -> list[tuple[int, int, str]]:
    """Return the number of GPUs, their memory in GB and the name of profiles that are named by these alone."""
    names = [path.stem for path in PROFILES.glob("*.yaml")]
    found = [match for name in names if (match := re.fullmatch(r"(\d+)x(\d+)gb", name))]
    return [(int(match[1]), int(match[2]), match[0]) for match in found]


def profile(name: str) -> Hardware:
    """Return a profile of `conf/hardware`.

    Raises:
        UserError: the file describes no machine.
    """
    try:
        return Hardware(**profile_values(name))
    except (TypeError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).removeprefix("Hardware.__init__() ").split())
        raise UserError(f"conf/hardware/{name}.yaml describes no machine: {reason}") from None


def profile_values(name: str) -> dict[str, Any]:
    """Return the values of a profile, over those of the ones that it starts from, in Hydra's order."""
    values = yaml.safe_load((PROFILES / f"{name}.yaml").read_text()) or {}
    bases, found = values.pop("defaults", []), {}
    for base in bases if "_self_" in bases else [*bases, "_self_"]:
        found |= values if base == "_self_" else profile_values(base)
    return found


def gpu_memories() -> list[float]:
    """Return the memory of each GPU in GB (10^9 bytes), without importing torch; empty when there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode:
        return []
    return [float(line) * 1.048576e-3 for line in answer.stdout.split()]


def memory_gb() -> float:
    """Return the memory of this machine in GB (10^9 bytes), or the container's limit if that is lower."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in LIMITS:
        try:
            sizes.append(int(Path("/sys/fs/cgroup", name).read_text()))
        except (OSError, ValueError):  # not this version of control groups, or no limit
            continue
    return min(sizes) / 1e9
