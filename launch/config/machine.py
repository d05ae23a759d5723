"""Hardware profiles, and which of them fits the machine that the launcher runs on."""

import os
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipes.profiles import Hardware
from recipes.system.errors import UserError
from recipes.system.paths import ROOT

PROFILES = ROOT / "conf" / "hardware"
REPORTED = 0.95  # of its nominal memory a GPU reports at least so much: error correction and drivers keep some
AMPERE = 8.0  # compute capability
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of a container, in /sys/fs/cgroup


def detect() -> str:
    """Return the profile for the NVIDIA GPUs that CUDA would see; cpu if none fits.

    Of those whose GPUs are there, by name alone (2x24gb is two of 24 GB): a profile that shards the model over them has
    all their memory, so the most memory wins. Else each GPU holds the whole model: the largest GPU wins, then the most.
    """
    memories = visible(gpu_memories())
    fitting: list[tuple[int, int, int, str]] = [(0, 0, 0, "cpu")]
    for count, size, name in plain_profiles():
        if sum(memory >= REPORTED * size for memory in memories) >= count:
            sharded = profile(name).strategy != "ddp"
            fitting.append((sharded * count * size, size, count, name))
    return max(fitting)[-1]


def auto() -> dict[str, Any]:
    """Return the profile `auto`: the detected one, in float32 where a GPU has no bfloat16."""
    return {"defaults": [detect(), "_self_"]} | ({} if has_bfloat16() else {"bf16": False})


def has_bfloat16() -> bool:
    """Whether every GPU that CUDA would see computes in bfloat16: from Ampere (8.0) on; as if so where none says."""
    known = gpu_values("compute_cap")
    return not known or all(capability >= AMPERE for capability in visible(known))


def visible(values: list[float]) -> list[float]:
    """Return those of all GPUs' values that CUDA would see; of one with another name, the least there is."""
    known = {str(number): value for number, value in enumerate(values)}
    return [known.get(name, min(values, default=0.0)) for name in visible_devices(len(values))]


def visible_devices(count: int) -> list[str]:
    """Return the devices that CUDA would see of `count` GPUs: numbers, or names that CUDA_VISIBLE_DEVICES gives."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(count)]
    return list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, named.split(","))))  # as CUDA does


def first_device() -> str:
    """Return the first device that CUDA would see, as a value of CUDA_VISIBLE_DEVICES; empty where it may see none."""
    return next(iter(visible_devices(1)), "")


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
        around = OmegaConf.create({"batch_size": 0})  # of no batch, which every micro-batch divides
        around.hardware = OmegaConf.merge(Hardware, profile_values(name))
        found = OmegaConf.to_object(around.hardware)
    except (TypeError, ValueError, AttributeError, OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        message, _, key = str(error).partition("object_type=")[0].partition("full_key:")
        reason = " ".join([*message.split(), *(f"({word})" for word in key.split())])
        raise UserError(f"conf/hardware/{name}.yaml describes no machine: {reason}") from None
    return cast("Hardware", found)


def profile_values(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the values of a profile, over those of the ones that it starts from, in Hydra's order.

    Raises:
        ValueError: the profile starts from itself, by way of those `above`.
    """
    if name in above:
        raise ValueError(f"its defaults lead back to {name}")
    values = yaml.safe_load((PROFILES / f"{name}.yaml").read_text()) or {}
    bases, found = values.pop("defaults", []), {}
    for base in bases if "_self_" in bases else [*bases, "_self_"]:
        found |= values if base == "_self_" else profile_values(base, (*above, name))
    return found


def gpu_memories() -> list[float]:
    """Return the memory of each GPU in GB (10^9 bytes); empty when there is none."""
    return [1.048576e-3 * mebibytes for mebibytes in gpu_values("memory.total")]


def gpu_values(field: str) -> list[float]:
    """Return what nvidia-smi says of each GPU, without importing torch; empty where it does not know the field."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    try:
        return [] if answer.returncode else [float(line) for line in answer.stdout.split()]
    except ValueError:  # [N/A]
        return []


def memory_gb() -> float:
    """Return the memory of this machine in GB (10^9 bytes), or the container's limit if that is lower."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in LIMITS:
        try:
            sizes.append(int(Path("/sys/fs/cgroup", name).read_text()))
        except (OSError, ValueError):  # not this version of control groups, or no limit
            continue
    return min(sizes) / 1e9
