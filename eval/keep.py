"""`python -m eval.keep [SESSION …] to=FILE.tar.gz`: what a session measured, without its weights, in one small file.

It has the session's own files and, of each of its stages, settings, record, log history and measurements. Unpacked with
`tar xf` in an empty checkout, `make table` prints the same table, and the command that made the session skips what is
finished: so the seeds of a long comparison can be trained on several days, or machines, without moving weights.
"""

import gzip
import io
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from eval.commands.cli import run
from eval.results.session import read_job, sessions
from recipes.config import UserError, done
from recipes.system.commands import output
from recipes.system.files import write_bytes

OF_STAGE = ("config.yaml", "record.json", "log_history.jsonl", "eval/**/*")
ENDING = ".tar.gz"


@dataclass
class Options:
    """The options of the command line."""

    to: str = MISSING


def main(names: list[str], options: Options) -> None:
    """Write the archive; the same files always give the same bytes.

    Raises:
        UserError: a directory is no session, lies elsewhere, or has a stage that is not finished.
    """
    if not options.to.endswith(ENDING):
        raise UserError(f"TO={options.to}: name the file to write, with the ending {ENDING}")
    files = sorted({path for session in sessions(names) for path in kept(session)})
    write_bytes(Path(options.to), archive(files))
    size = Path(options.to).stat().st_size
    output.print(
        f"{options.to}: {len(files)} files, {size / 1e6:.1f} MB; `tar xf {options.to}` unpacks it", soft_wrap=True
    )


def kept(session: Path) -> Iterator[Path]:
    """Yield a session's files and those of its stages that are kept.

    Raises:
        UserError: a stage is not finished.
    """
    yield from (path for path in session.rglob("*") if path.is_file())
    for job in map(read_job, session.glob("**/job.json")):
        for stage in {job["base"], *(stage for stages in job["pipelines"].values() for stage in stages)}:
            directory = Path(stage)
            if not done(directory):
                raise UserError(f"{directory} is not finished: type the command of {session} again, then keep it")
            yield from (path for pattern in OF_STAGE for path in directory.glob(pattern) if path.is_file())


def archive(files: list[Path]) -> bytes:
    """Return a compressed archive of files, by their places below the working directory.

    Raises:
        UserError: a file lies elsewhere.
    """
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as members:
        for file in files:
            member = tarfile.TarInfo(place(file))
            content = file.read_bytes()
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return made.getvalue()


def place(file: Path) -> str:
    """Return a file's place below the working directory, where it is unpacked again."""
    here = Path.cwd()
    if not file.resolve().is_relative_to(here):
        raise UserError(f"{file} is not below {here}: keep a session from the directory in which it was trained")
    return str(file.resolve().relative_to(here))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
