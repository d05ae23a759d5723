"""Check a recovered training: the weights of an undisturbed one, and no half-written file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file


def weights(runs: Path) -> dict[str, bytes]:
    """Return the trained weights of every finished stage and base model, byte for byte, by path."""
    found = {}
    for record in sorted(runs.glob("[!_]*/**/record.json")):
        model = record.parent / "model" / "model.safetensors"
        if model.exists():
            found[str(record.parent.relative_to(runs))] = model.read_bytes()
    return found


def complaints(runs: Path, expected: dict[str, bytes]) -> list[str]:
    """Return everything that is wrong, one line each."""
    found = weights(runs)
    wrong = [f"{stage} is not finished" for stage in expected if stage not in found]
    wrong += [
        f"{stage} has other weights" for stage in expected if found.get(stage, expected[stage]) != expected[stage]
    ]
    wrong += [f"{stage} is an unexpected stage" for stage in found if stage not in expected]
    return wrong + list(damaged(runs))


def damaged(runs: Path) -> Iterator[str]:
    """Yield a line for every file that is half-written, not finite, or left over."""
    for path in sorted(runs.rglob("*")):
        name = path.relative_to(runs)
        if path.name.startswith(".") and path.name != ".claim":
            yield f"{name} is a temporary name"
        elif path.name.startswith("checkpoint-"):
            yield f"{name} was left"
        elif path.is_file() and (reason := unreadable(path)):
            yield f"{name} {reason}"


def unreadable(path: Path) -> str | None:
    """Return what is wrong with a file of a known kind, in a few words."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes(), parse_constant=refuse)
        elif path.suffix == ".jsonl":
            for line in read_lines(path):
                json.loads(line, parse_constant=refuse)
        elif path.suffix == ".yaml":
            yaml.safe_load(path.read_bytes())
        elif path.suffix == ".safetensors" and not all(map(finite, load_file(path).values())):
            return "holds numbers that are not finite"
    except (ValueError, yaml.YAMLError, SafetensorError, OSError) as error:
        return f"cannot be read ({' '.join(str(error).split())[:100]})"
    return None


def read_lines(path: Path) -> list[bytes]:
    """Return a file's lines; in a file of responses, written line by line, without damaged ones."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    return [line for line in lines if not path.name.startswith("answers") or is_json(line)]


def is_json(line: bytes) -> bool:
    """Whether a line is JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def refuse(constant: str) -> None:
    """Reject a constant that JSON does not have.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{constant} is no number")


def finite(tensor: Any) -> bool:
    """Whether all of a tensor's values are finite."""
    return bool(torch.isfinite(tensor).all())
