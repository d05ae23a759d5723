"""`python -m eval.push STAGE to=ORGANIZATION/NAME [dry_run=true] [public=true]`: a stage's model to the Hub.

The repository is private unless `public=true`. Only the files of the model are uploaded: weights in safetensors or
GGUF, configuration, tokenizer, chat template and card. Instead of a stage you may name the directory or GGUF file that
`make export` wrote. The token is $HF_TOKEN. `dry_run=true` prints what would be uploaded and exits.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import filter_repo_objects

from eval.card import HUB_ID
from eval.commands.cli import run
from recipes.config import UserError, read_config
from recipes.system.commands import output
from recipes.system.secrets import redact, without_password

WEIGHTS = ["*.safetensors", "*.gguf"]
TEXTS = ["config.json", "generation_config.json", "*.index.json", "README.md", "chat_template.jinja", "tokenizer*"]
TEXTS += ["special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"]


@dataclass
class Options:
    """The options of the command line."""

    to: str = ""
    public: bool = False
    dry_run: bool = False


def main(names: list[str], options: Options) -> None:
    """Upload the named model, or print what would be uploaded.

    Raises:
        UserError: there is no model, no name or no token, a file holds a secret, or the Hub refuses.
    """
    if not HUB_ID.fullmatch(options.to):
        raise UserError(f"TO={options.to}: name the repository, TO=<organization or user>/<name>")
    place = model_place(names)
    directory, found = (place.parent, [place]) if place.is_file() else (place, sorted(place.iterdir()))
    files = list(filter_repo_objects(found, allow_patterns=WEIGHTS + TEXTS, key=lambda file: file.name))
    refuse_secrets(files)
    describe(files, directory, options)
    if options.dry_run:
        output.print("dry run: nothing was uploaded")
    else:
        upload(directory, options, [file.name for file in files])


def model_place(names: list[str]) -> Path:
    """Return the directory of a stage's model, or an exported model's directory or GGUF file.

    Raises:
        UserError: it is none of these.
    """
    if len(names) != 1:
        raise UserError("name one finished stage: make push RUN=runs/<model>/<dataset>/<stage>-<digest> TO=…")
    directory = Path(names[0])
    if (directory / "config.yaml").is_file():
        if read_config(directory).get("stage", "base") == "base":
            raise UserError(f"{directory} is the base model, which is not yours to publish: name a stage")
        if not (directory / "record.json").is_file():
            raise UserError(f"{directory} has no record.json: train it first")
        directory = directory / "model"
    if not (directory / "config.json").is_file() and not (directory.is_file() and directory.suffix == ".gguf"):
        raise UserError(f"{directory} has no model: name a finished stage, or what `make export` wrote")
    return directory


def refuse_secrets(files: list[Path]) -> None:
    """Reject files that must not be uploaded.

    Raises:
        UserError: a file is a link to elsewhere, or contains a secret of this environment.
    """
    for file in files:
        if file.is_symlink():
            raise UserError(f"{file} is a link to elsewhere: replace it with the file")
        text = "" if file.suffix in (".safetensors", ".gguf") else file.read_text(errors="replace")
        if redact(text) != text:
            raise UserError(f"{file} contains a token of this environment: remove the token; nothing was uploaded")


def describe(files: list[Path], directory: Path, options: Options) -> None:
    """Print the target, the files to upload, those left out, and the card."""
    visible = "public" if options.public else "private"
    output.print(f"{directory} to {without_password(constants.ENDPOINT)}/{options.to}, {visible}", soft_wrap=True)
    for file in files:
        output.print(f"  {file.stat().st_size:>14,} bytes  {file.name}")
    left = sorted(path.name for path in directory.iterdir() if path not in files)
    output.print(f"  not uploaded: {', '.join(left) or 'nothing'}", soft_wrap=True)
    card = directory / "README.md"
    output.print(card.read_text() if card in files else "  no model card; `make eval SUITE=card` writes one")


def upload(directory: Path, options: Options, files: list[str]) -> None:
    """Create the repository if it does not exist, and upload the files as one commit.

    Raises:
        UserError: there is no token, the Hub refuses, or the repository is already public but should be private.
    """
    if not (token := os.environ.get("HF_TOKEN")):
        raise UserError("$HF_TOKEN is not set: export a token with write permission; it is not stored")
    hub: Any = HfApi(token=token)
    try:
        if not options.public and hub.repo_exists(options.to) and not hub.model_info(options.to).private:
            raise UserError(f"{options.to} is already public: name another repository, or add PUBLIC=1")
        hub.create_repo(options.to, private=not options.public, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=options.to, folder_path=directory, allow_patterns=files, commit_message="Add the model"
        )
    except UserError:
        raise
    except Exception as error:  # the Hub's client and its network library raise different errors
        reason = without_password(redact(" ".join(str(error).split())))[:200]
        raise UserError(
            f"{without_password(constants.ENDPOINT)} rejected the upload ({reason}): run the same command to try again"
        ) from None
    output.print(f"uploaded: {commit.commit_url}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
