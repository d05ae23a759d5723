"""Full or read-only disks, as mounts that only one command sees: `unshare` needs neither root nor a device."""

import shlex
import subprocess
from functools import cache
from pathlib import Path

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


@cache
def impossible() -> str | None:
    """Return why this machine cannot mount, or None."""
    try:
        tried = subprocess.run([*UNSHARE, "mount -t tmpfs none /mnt"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unshare: {error.strerror}"
    return " ".join(tried.stderr.split()) or f"exit status {tried.returncode}" if tried.returncode else None


def full_disk(words: list[str], runs: Path, kilobytes: int) -> list[str]:
    """Return a command that runs `words` on a disk of this size, frees space, runs them again and copies the result.

    Both exit statuses are written beside `runs`, to `status`, one per line.
    """
    kept, status, launch = f"{runs}.kept", shlex.quote(f"{runs}.status"), shlex.join(words)
    disk = shlex.quote(str(runs))
    script = f"mount -t tmpfs -o size={kilobytes}k none {disk}; {launch}; echo $? > {status}; "
    script += f"mount -o remount,size=1g {disk}; {launch}; echo $? >> {status}; cp -a {disk} {shlex.quote(kept)}"
    return [*UNSHARE, script]


def read_only(words: list[str], runs: Path) -> list[str]:
    """Return a command that runs `words` with `runs` read-only; its exit status is theirs."""
    disk = shlex.quote(str(runs))
    return [*UNSHARE, f"mount --bind {disk} {disk}; mount -o remount,ro,bind {disk}; exec {shlex.join(words)}"]
