"""`python -m eval.push STAGE to=ORGANISATION/NAME [dry_run=true] [public=true]`: a stage's model to the hub.

The hub is Hugging Face's. The repository is private unless `public=true`, and only what loads the model is sent:
weights in safetensors or GGUF, configuration, tokenizer, chat template and card; no checkpoint, log, record or
evaluation. Instead of a stage, the directory or GGUF file that `make export` wrote may be named. The token is that of
the environment, $HF_TOKEN. `dry_run=true` prints what would be sent and where to, and asks nobody.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from eval.cli import run
from eval.console import console
from recipes.config import UserError, read_config
from recipes.system.secrets import redact, without_password

SENT = {
    *("config.json", "generation_config.json", "model.safetensors.index.json", "README.md", "chat_template.jinja"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "tokenizer.model"),
}
WEIGHTS = {".safetensors", ".gguf"}
LARGEST_TEXT = 2**26  # bytes


@dataclass
class Options:
    """Where to, and who may see it."""

    to: str = ""
    public: bool = False
    dry_run: bool = False


def main(names: list[str], options: Options) -> None:
    """Send the model named, or say what would be sent.

    Raises:
        UserError: there is no model, no name or no token, a file holds a secret, or the hub refuses.
    """
    given, target = model_place(names), repository(options.to)
    directory = given.parent if given.is_file() else given
    files = sent([given] if given.is_file() else sorted(given.iterdir()))
    who = "public" if options.public else "private"
    console.print(f"{given} to {without_password(constants.ENDPOINT)}/{target}, {who}", soft_wrap=True)
    for file in files:
        console.print(f"  {file.stat().st_size:>14,} bytes  {file.name}")
    left = sorted(path.name for path in directory.iterdir() if path not in files)
    console.print(f"  not sent: {', '.join(left) or 'nothing'}", soft_wrap=True)
    card = directory / "README.md"
    console.print(card.read_text() if card in files else "  no model card: `make eval SUITE=card` writes one")
    if options.dry_run:
        console.print("dry run: nothing was sent")
        return
    upload(directory, target, [file.name for file in files], options.public)


def model_place(names: list[str]) -> Path:
    """Return the directory of a stage's model, or that or the GGUF file of an exported one.

    Raises:
        UserError: it is none.
    """
    if len(names) != 1:
        raise UserError("give one finished stage: make push RUN=runs/<model>/<dataset>/<stage>-<digest> TO=…")
    directory = Path(names[0])
    if (directory / "config.yaml").is_file():
        if read_config(directory).get("stage", "base") == "base":
            raise UserError(f"{directory} is the base model, which is not yours to publish: give a stage")
        if not (directory / "record.json").is_file():
            raise UserError(f"{directory} has no record.json: train it first")
        directory = directory / "model"
    if not (directory / "config.json").is_file() and not (directory.is_file() and directory.suffix == ".gguf"):
        raise UserError(f"{directory} holds no model: give a finished stage, or what `make export` wrote")
    return directory


def repository(name: str) -> str:
    """Return a repository's id.

    Raises:
        UserError: it is none.
    """
    given = name
    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if name.count("/") != 1:
        raise UserError(
            f"TO={given}: say where to, by TO=<organisation or user>/<name> of letters, digits, '.', '_' and '-'"
        )
    return name


def sent(found: list[Path]) -> list[Path]:
    """Return those files that load the model; they are plain ones and hold no secret.

    Raises:
        UserError: one holds the value of a secret of this environment.
    """
    files = [path for path in found if path.name in SENT or path.suffix in WEIGHTS]
    for file in files:
        if file.is_symlink():
            raise UserError(f"{file} is a link to elsewhere: put the file itself there")
        if file.suffix not in WEIGHTS and file.stat().st_size < LARGEST_TEXT:
            text = file.read_text(errors="replace")
            if redact(text) != text:
                raise UserError(f"{file} holds a token of this environment: take it out, nothing was sent")
    return files


def upload(directory: Path, target: str, files: list[str], public: bool) -> None:
    """Make the repository where there is none, and send the files as one commit.

    Raises:
        UserError: there is no token, the hub refuses, or a repository that is to be private is public.
    """
    if not (token := os.environ.get("HF_TOKEN")):
        raise UserError("$HF_TOKEN is not set: put a token there that may write; it is kept nowhere")
    hub: Any = HfApi(token=token)
    try:
        if not public and not private(hub, target):
            raise UserError(f"{target} is public already: name another repository, or say PUBLIC=1")
        hub.create_repo(target, private=not public, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=target, folder_path=directory, allow_patterns=files, commit_message="Add the model"
        )
    except UserError:
        raise
    except Exception as error:  # the hub's client has its own, that of the network beneath it others
        reason = without_password(redact(" ".join(str(error).split())))[:200]
        raise UserError(
            f"{without_password(constants.ENDPOINT)} did not take it ({reason}): the same command tries again"
        ) from None
    console.print(f"sent: {commit.commit_url}", soft_wrap=True)


def private(hub: Any, target: str) -> bool:
    """Whether a repository is private, or not there yet."""
    try:
        return bool(hub.model_info(target).private)
    except RepositoryNotFoundError:
        return True


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
