"""Which hardware profile fits the machine that the launcher runs on."""

import os
import shutil
import subprocess
from pathlib import Path

LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of a container, in /sys/fs/cgroup


def detect() -> str:
    """Return the name of a profile in `conf/hardware`: by the number and memory of NVIDIA GPUs, else cpu."""
    memories = gpu_memories()
    if len(memories) >= 8 and min(memories) >= 70:
        return "8x80gb"
    if memories and max(memories) >= 70:
        return "1x80gb"
    if memories and max(memories) >= 44:
        return "1x48gb"
    if memories and max(memories) >= 20:
        return "1x24gb"
    return "cpu"


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
