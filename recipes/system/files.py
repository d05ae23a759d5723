"""Files that are whole or missing, and directories whose every byte can be checked against a seal."""

import hashlib
import json
import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path

from recipes.system.secrets import redact

SEAL = "seal.json"
HERE = platform.node().replace(".", "-")


def temporary(path: Path) -> Path:
    """Return this process's temporary name for a file that will be renamed to `path`."""
    return path.with_name(f".{path.name}.{HERE}.{os.getpid()}")


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files that killed processes of this machine left in `directory`."""
    for path in directory.glob(f".*.{HERE}.[0-9]*"):
        if not alive(int(path.suffix[1:])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all, without known secrets."""
    write_bytes(path, redact(text).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: write a temporary file, then rename it."""
    unfinished = temporary(path)
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()  # exists only after a full disk or a signal


def seal(directory: Path) -> None:
    """Write the SHA-256 of every file in `directory` to its seal, the last file written there."""
    write_text(directory / SEAL, json.dumps(contents(directory), indent=1) + "\n")


def contents(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file except the seal, by path."""
    found = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / SEAL):
        with path.open("rb") as file:
            found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flaw(directory: Path) -> str | None:
    """Return what is wrong with a sealed directory in a few words; None if every byte is as written."""
    try:
        known = json.loads((directory / SEAL).read_bytes())
    except FileNotFoundError:
        return "it was not written to its end"
    except ValueError:
        return f"{SEAL} is damaged"
    found = contents(directory)
    changed = next((name for name in known if found.get(name) != known[name]), None)
    return f"{changed} is not what was written" if changed else None
