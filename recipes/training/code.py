"""The code that determines a stage's weights: kept beside its checkpoints from the first step, and in its record."""

from pathlib import Path
from typing import Any

from recipes.config import UNMERGED, UserError, read_json, write_json
from recipes.system.fingerprint import digest, fingerprint

CODE = "code.json"  # the code that a training began with; other code may resume it


def code_of(stage: str, *starts: str | None) -> dict[str, str]:
    """Return the fingerprint of a recipe, and by name one for each stage whose model it starts from."""
    found = fingerprint(f"recipes.{stage}")
    for directory in (Path(start).parent for start in starts if start):
        if earlier := trained_by(directory):
            found[directory.name] = digest(earlier)
    return found


def keep_code(directory: Path, stage: str, *starts: str | None) -> None:
    """Write the fingerprint of the code that begins to train in a stage's directory."""
    write_json(directory / CODE, code_of(stage, *starts))


def begun_by(directory: Path) -> dict[str, str]:
    """Return the fingerprint of the code that began to train in a directory, empty if unknown."""
    return read(directory / CODE)


def trained_by(directory: Path) -> dict[str, str] | None:
    """Return the fingerprint of the code that has trained in a directory, empty if unknown.

    None if no checkpoint has been written yet.
    """
    for name in ("record.json", UNMERGED):
        if (directory / name).exists():
            return read(directory / name).get("code", {})
    return begun_by(directory) if any(directory.glob("checkpoint-[0-9]*")) else None


def read(path: Path) -> dict[str, Any]:
    """Return a file's values, empty if it is missing or damaged."""
    try:
        found = read_json(path)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}
