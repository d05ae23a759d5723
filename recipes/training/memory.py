"""The memory that a training takes: on a GPU what PyTorch held, on a CPU what the training added to the process."""

from pathlib import Path

import torch
from accelerate.utils import gather_object
from transformers import Trainer

_before = [0]  # bytes of this process when its libraries were loaded, but no model yet


def begin() -> None:
    """Note that the libraries are loaded and the training begins."""
    _before[0] = resident("VmRSS")


def peaks(trainer: Trainer) -> dict[str, int]:
    """Return the most memory of the training, in bytes, the largest over all processes; each must call it.

    On a GPU `peak_memory_bytes` was allocated, and `peak_reserved_bytes` reserved by PyTorch from the device. On a CPU
    `peak_memory_bytes` is the peak of resident memory less that of the loaded libraries, `memory_before_bytes`, which
    would hide a small model's.
    """
    if trainer.args.device.type == "cuda":
        own = {
            "peak_memory_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    else:
        own = {"peak_memory_bytes": resident("VmHWM") - _before[0], "memory_before_bytes": _before[0]}
    everywhere: list[dict[str, int]] = gather_object([own])
    return {name: max(found[name] for found in everywhere) for name in own}


def resident(name: str) -> int:
    """Return the bytes of this process in physical memory: VmRSS now, VmHWM at its peak.

    Not `getrusage`, whose peak is also that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(found.split()[1]) * 1024
