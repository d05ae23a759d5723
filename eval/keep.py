"""`python -m eval.keep [SESSION …] to=FILE.tar.gz`: what a session measured, without its weights, in one small file.

It has the session's own files and, of each of its stages, settings, record, log history and measurements; the page is
left out, as `make eval` makes it again. Unpacked with `tar xf` in an empty checkout, `make table` prints the same
table, and the command that made the session skips what is finished: so the seeds of a long comparison can be trained on
several days, or machines, without moving weights.

`texts=false` leaves out what nobody but you may read: each prompt becomes a digest and each response is empty, which
changes no figure of the table. Logs, people's votes and what other suites measured have texts too, and are left out.
"""

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from eval.commands.cli import run
from eval.results.session import models_of, read_job, sessions, unmeasured
from recipes.config import UserError, done
from recipes.system.commands import output
from recipes.system.files import write_bytes
from recipes.system.paths import expanded

HISTORY = "log_history.jsonl"
OF_STAGE = ("config.yaml", "record.json", HISTORY, "eval/**/*")
MADE_AGAIN = ("report.html", "responses.jsonl")  # of a session, by `make eval`, from what is kept
ENDING = ".tar.gz"
TABLES = r"([0-9a-f]{8}|right-.*|dynamics-.*|likelihood-.*)\.json"  # of a stage's eval/: what has no texts but answers'


@dataclass
class Options:
    """The options of the command line."""

    to: str = MISSING
    texts: bool = True  # whether prompts and responses are kept


def main(names: list[str], options: Options) -> None:
    """Write the archive; the same files always give the same bytes.

    Raises:
        UserError: a directory is no session, lies elsewhere, or has a stage that is not finished; or the file exists.
    """
    place = expanded(options.to)
    if not options.to.endswith(ENDING) or place.exists():
        raise UserError(f"TO={options.to}: name a new file to write, with the ending {ENDING}")
    files = sorted({path for session in sessions(names) for path in kept(session)})
    write_bytes(place, archive(files, options.texts))
    size = place.stat().st_size
    output.print(
        f"{options.to}: {len(files)} files, {size / 1e6:.1f} MB; `tar xf {options.to}` unpacks it", soft_wrap=True
    )


def kept(session: Path) -> Iterator[Path]:
    """Yield a session's files and those of its stages that are kept.

    Raises:
        UserError: a job did not train all that was asked, or its models are not measured.
    """
    yield from (path for path in session.rglob("*") if path.is_file() and path.name not in MADE_AGAIN)
    for path in session.glob("**/job.json"):
        job = read_job(path)
        refuse_unfinished(job, session, evaluated=path.parent.name.isdecimal())
        for directory in stages_of(job):
            yield from (file for pattern in OF_STAGE for file in directory.glob(pattern) if file.is_file())


def refuse_unfinished(job: dict[str, Any], session: Path, evaluated: bool) -> None:
    """Reject a job of which something would be missing once the weights are gone.

    A job whose stages others share, before theirs, is not `evaluated`.

    Raises:
        UserError: a stage is not finished, a pipeline is missing, or a model is not measured.
    """
    missing = sorted({*job.get("wanted", ())} - {*job["pipelines"]}) if job["pipelines"] else []
    unfinished = [str(directory) for directory in stages_of(job) if not done(directory)]
    if missing or unfinished:
        raise UserError(
            f"{(missing + unfinished)[0]} is not finished: type the command of {session} again, then keep it"
        )
    for directory in models_of(job) if evaluated else ():
        if why := unmeasured(directory, job["evaluation"]):
            raise UserError(f"{directory} is not measured ({why}): `make eval RUNS={session}`, then keep it")


def stages_of(job: dict[str, Any]) -> list[Path]:
    """Return the stages of a job that trained something: the base model, all of its pipelines, and a trained judge."""
    if not job["pipelines"]:
        return []
    judge = job["evaluation"].get("judge")
    stages = {job["base"], *(stage for stages in job["pipelines"].values() for stage in stages)}
    return [Path(stage) for stage in sorted(stages | ({judge} if judge and done(Path(judge)) else set()))]


def archive(files: list[Path], texts: bool) -> bytes:
    """Return a compressed archive of files, by their places below the working directory.

    Raises:
        UserError: a file lies elsewhere.
    """
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as members:
        for file in files if texts else filter(has_figures, files):
            member = tarfile.TarInfo(place(file))
            content = file.read_bytes() if texts or file.suffix != ".json" else without_texts(file.read_bytes())
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return made.getvalue()


def has_figures(file: Path) -> bool:
    """Whether a file has figures, and no texts but those of responses in JSON, which `without_texts` empties."""
    if file.parent.name == "eval":
        return bool(re.fullmatch(TABLES, file.name))
    return file.name == HISTORY or file.suffix in (".json", ".yaml", ".md")


def without_texts(content: bytes) -> bytes:
    """Return a JSON file whose prompts are digests and whose responses are empty."""

    def emptied(value: dict[str, Any]) -> dict[str, Any]:
        hidden = {name: "" for name in ("text", "prompt") if isinstance(value.get(name), str)}
        if "prompt" in hidden:  # two prompts stay two
            hidden["prompt"] = hashlib.sha256(value["prompt"].encode()).hexdigest()[:12]
        return value | hidden

    return json.dumps(json.loads(content, object_hook=emptied)).encode()


def place(file: Path) -> str:
    """Return a file's place below the working directory, where it is unpacked again."""
    here = Path.cwd()
    whole = here / file  # not resolved: a link on the way, such as runs/, stays one
    if ".." in whole.parts or not whole.is_relative_to(here):
        raise UserError(f"{file} is not below {here}: keep a session from the directory in which it was trained")
    return str(whole.relative_to(here))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
