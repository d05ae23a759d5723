"""Compare two models' weights."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from recipes.config import UserError


def difference(one: Path, other: Path) -> tuple[float | None, bool]:
    """Return the largest absolute difference of two models' weights, and whether they are equal bit for bit.

    They are read tensor by tensor, so that large models need little memory. The difference is None if names or shapes
    differ. Equal bits mean more than a difference of zero: equal dtypes, and equal signs of zeros.

    Raises:
        UserError: a directory has no weights in safetensors, or a damaged file.
    """
    ours, theirs = opened(one), opened(other)
    if {name: shape(file, name) for name, file in ours.items()} != {n: shape(file, n) for n, file in theirs.items()}:
        return None, False
    largest, same = 0.0, True
    for name, file in ours.items():
        left, right = (of.get_tensor(name).reshape(-1) for of in (file, theirs[name]))
        same &= left.dtype == right.dtype and torch.equal(left.view(torch.uint8), right.view(torch.uint8))
        gaps = (left.double() - right.double()).abs()
        largest = max(largest, gaps.max().item() if len(gaps) else 0.0)
    return largest, same


def opened(directory: Path) -> dict[str, Any]:
    """Return each weight's open file, by name."""
    try:
        files = [safe_open(path, "pt") for path in sorted(directory.glob("*.safetensors"))]
    except (SafetensorError, OSError) as error:
        raise UserError(f"{directory} has damaged weights ({error}): restore them") from None
    if not files:
        raise UserError(f"{directory} has no weights in safetensors: name a saved model")
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118


def shape(file: Any, name: str) -> list[int]:
    """Return a weight's shape without reading it."""
    return file.get_slice(name).get_shape()
