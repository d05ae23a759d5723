"""A GGUF file as the start of a training: converted once into an ordinary model directory, named by the file's hash."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from launch.named.model import told_name
from recipes.config import UserError
from recipes.system.commands import console
from recipes.system.files import sha256_of
from recipes.system.paths import ROOT
from recipes.system.processes import die_with_parent

CACHE = ROOT / ".cache" / "gguf"
MAGIC = b"GGUF"
DIGITS = 12  # of a hash, in a directory's name
PRECISION = re.compile(r"[-_.](i?q\d\w*|b?f16|fp16|f32|mxfp4)$", re.IGNORECASE)  # at the end of a file's name


@cache
def model_directory(file: Path) -> Path:
    """Return the model directory of a GGUF file, converting it if that was not done before.

    Raises:
        UserError: it is no GGUF file, or Transformers cannot read it.
    """
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(MAGIC))
        digest = sha256_of(file)
    except OSError as error:
        raise UserError(f"MODEL={file} cannot be read ({error.strerror}; relative to {Path.cwd()})") from None
    if begins != MAGIC:
        raise UserError(f"MODEL={file} is no GGUF file, whatever its name: copy or download it again")
    place, name = CACHE / digest[:DIGITS], told_name(file.with_name(PRECISION.sub("", file.stem)))
    if not any(place.glob(f"{name}*")):
        console.print(f"       {file} is converted to float32, once, into {shown(place)}", soft_wrap=True)
        run_converter(file, digest, place, name)
    return shown(next(place.glob(f"{name}*")))


def run_converter(file: Path, digest: str, place: Path, name: str) -> None:
    """Convert in a process that may import PyTorch.

    Raises:
        UserError: Transformers cannot read the file.
    """
    command = [sys.executable, "-m", "recipes.training.gguf", str(file.absolute()), digest, str(place), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=die_with_parent)
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[::-1]), f"exit status {done.returncode}")
        raise UserError(last.removeprefix("error: "))


def shown(path: Path) -> Path:
    """Return a path of this checkout as people type it: relative to where they are."""
    return Path(os.path.relpath(path))
