"""Install packages into .venv as pip would: with uv, which takes a fifth of the time, where it is or can be had.

`make` calls `python -m launch.install WORDS…` with the words of `pip install`; it needs nothing but Python and pip. uv
gets pip's own settings, so that both look in the same places. If uv fails, pip installs.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LOG = Path(".venv.log")
UV = "uv==0.13.9"
HASHES = "--require-hashes"  # for pip: uv takes no constraints beside them, and such lists are short
# What pip calls a setting, what uv reads, and the separator of several values there.
NAMES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
}
SETTING = re.compile(r"(global|install|:env:)\.([\w-]+)=(.*)")
SOURCES = {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX"}
# PyTorch from its own index of CPU builds: the default build brings gigabytes of CUDA. Tried first, where there is no
# GPU and the user has named no sources. An image, or an environment that other nodes use, needs CUDA all the same.
CPU = {"UV_TORCH_BACKEND": "cpu"}
WITH_CUDA = "WITH_CUDA"  # a variable that asks for it


def settings(listed: str) -> dict[str, str]:
    """Return pip's settings from what `pip config list` prints; variables override `install`, and that `global`."""
    found = [match.groups() for match in map(SETTING.fullmatch, listed.splitlines()) if match]
    found.sort(key=lambda setting: ("global", "install", ":env:").index(setting[0]))
    return {name: str(ast.literal_eval(value)) for _, name, value in found}


def translated(pips: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings as uv's variables.

    Of several indexes uv would take the first that has a package; pip, and so we, take the best version of all.
    """
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for name, value in pips.items():
        if name in NAMES:
            variable, separator = NAMES[name]
            found[variable] = separator.join(value.split())
    return found


def run(command: list[str], environment: Mapping[str, str]) -> bool:
    """Run a command with its output in the log; return whether it succeeded."""
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode == 0


def find_uv() -> list[str] | None:
    """Return the command that is uv: the machine's, else one from pip; None if there is neither."""
    installed = shutil.which("uv")
    if installed and run([installed, "--version"], os.environ):
        return [installed]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", UV]
    return [sys.executable, "-m", "uv"] if run(pip, os.environ) else None


def with_uv(words: list[str]) -> bool:
    """Install with uv; return whether that succeeded. Variables of uv that the user has set stay."""
    uv = find_uv()
    if uv is None:
        return False
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    ours = translated(settings(listed.stdout))
    command = [*uv, "pip", "install", "--python", sys.executable, *words]
    environment = ours | os.environ
    default = not (SOURCES & environment.keys() or shutil.which("nvidia-smi") or os.environ.get(WITH_CUDA))
    if default and run(command, CPU | environment):
        print(
            f"       PyTorch without CUDA, as there is no GPU here; for GPUs elsewhere: {WITH_CUDA}=1 make environment"
        )
        return True
    return run(command, environment)


def main(words: list[str]) -> int:
    """Install what the words of `pip install` ask for; return the exit status."""
    LOG.unlink(missing_ok=True)
    if HASHES not in words:
        if with_uv(words):
            return 0
        print("       uv could not install it (its log is .venv.log): pip does, which takes minutes longer", flush=True)
    if run([sys.executable, "-m", "pip", "install", *words], os.environ):
        return 0
    print(*LOG.read_text().splitlines()[-5:], "error: the installation failed; its log is .venv.log", sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
