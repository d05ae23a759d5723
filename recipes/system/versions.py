"""The code behind a result: versions of the libraries, and this checkout's commit."""

import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from recipes.system.paths import ROOT

LIBRARIES = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that affect a result."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # bitsandbytes is needed only for 4 bits
            found[name] = version(name)
    return found


def provenance() -> dict[str, Any]:
    """Return this checkout's commit, and whether files differ from it; None outside a repository."""

    def git(*words: str) -> str | None:
        try:
            answer = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
