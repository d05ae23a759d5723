"""What a model says of itself: the small files of its directory or of its repository on the Hub."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from recipes.config import GGUF, UserError
from recipes.system.paths import expanded

LOCAL = "or name the directory of a local copy in its place"


@dataclass(frozen=True)
class ModelFiles:
    """A model's own statements; a file that it does not have is empty."""

    name: str  # a directory or a Hub id
    revision: str | None  # of a Hub id: the commit
    config: dict[str, Any]
    generation: dict[str, Any]  # generation_config.json
    special: dict[str, Any]  # tokenizer_config.json
    tokenizer: dict[str, Any]  # tokenizer.json
    template: str | None  # the chat template
    gguf: dict[str, Any] = field(default_factory=dict)  # what was made from a GGUF file says so, see recipes.config


def read_files(name: str, revision: str) -> ModelFiles:
    """Return the files of a directory, or of a Hub id at a revision; no weights are read.

    Raises:
        UserError: there is no such model, or a file is damaged.
    """
    directory = expanded(name)
    if directory.is_dir():
        refuse_no_model(directory)
        commit = None
    else:
        commit = hub_file(name, "config.json", revision).parent.name

    def find(file: str) -> Path | None:
        path = directory / file if commit is None else optional_hub_file(name, file, commit)
        return path if path and path.is_file() else None

    special = {**read(find("special_tokens_map.json")), **read(find("tokenizer_config.json"))}
    path = find("chat_template.jinja")
    return ModelFiles(
        name=name,
        revision=commit,
        config=read(find("config.json")),
        generation=read(find("generation_config.json")),
        special=special,
        tokenizer=read(find("tokenizer.json")) or converted(name, commit),
        template=path.read_text() if path else default_template(special.get("chat_template")),
        gguf=read(directory / GGUF) if (directory / GGUF).is_file() else {},
    )


def refuse_no_model(directory: Path) -> None:
    """Reject a directory without a model.

    Raises:
        UserError: the message says what is missing.
    """
    if (directory / "config.json").is_file():
        return
    if (directory / "model" / "config.json").is_file():
        raise UserError(f"{directory} is the directory of a stage: name the model in it, MODEL={directory / 'model'}")
    if (directory / "adapter_config.json").is_file():
        raise UserError(f"{directory} is an adapter: merge it into its base model first, and name the merged model")
    raise UserError(f"{directory} has no config.json: name the directory of a Transformers model")


def read(path: Path | None) -> dict[str, Any]:
    """Return a JSON file's object; nothing if there is no file.

    Raises:
        UserError: it is damaged.
    """
    try:
        values = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): copy or download the model again") from None
    return values if isinstance(values, dict) else {}


def converted(name: str, commit: str | None) -> dict[str, Any]:
    """Return the tokenizer.json of a model that has none, as Transformers makes it of the model's older files.

    Raises:
        UserError: Transformers cannot.
    """
    from transformers import AutoTokenizer

    from recipes.system.hub import NO_CODE, reason

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(expanded(name)), revision=commit, **NO_CODE)
        found = json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # a missing or damaged file raises whatever its reader raises
        raise UserError(
            f"{name} has no tokenizer that can be loaded ({reason(error)}): copy or download it again"
        ) from None
    if len(found["model"].get("vocab", ())) <= len(found["added_tokens"]):
        raise UserError(f"{name} has no tokenizer.json, nor an older tokenizer's files: copy them from its base model")
    return found


def default_template(given: Any) -> str | None:
    """Return the chat template of a tokenizer_config.json, which may name several."""
    if isinstance(given, list):
        named = {item["name"]: item["template"] for item in given}
        return named.get("default")
    return given


def hub_file(name: str, file: str, revision: str) -> Path:
    """Return the path of a file of a Hub model in the local cache, downloaded if it is not there.

    Raises:
        UserError: the model cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    from recipes.system.hub import reachable

    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=not reachable()))
    except GatedRepoError:
        raise UserError(
            f"{name} is gated: accept its license on its Hub page and run `hf auth login`, {LOCAL}"
        ) from None
    except Exception:  # offline, unknown, no permission, no such revision: the client has a dozen kinds of errors
        raise UserError(
            f"{name} is not in the local cache and the Hub is unreachable or does not have it: with a "
            f"network, run `hf download {name}`, {LOCAL}"
        ) from None


def optional_hub_file(name: str, file: str, commit: str) -> Path | None:
    """Return the path of a file of a Hub model; None if the model does not have it."""
    try:
        return hub_file(name, file, commit)
    except UserError:
        return None


def count_parameters(path: str) -> int | None:
    """Count a local model's weights from the headers of its safetensors files; None if there are none.

    Raises:
        UserError: a file is damaged.
    """
    total = 0
    for file in weight_files(Path(path)):
        try:
            with safe_open(file, "numpy") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is damaged ({error}): copy or download the model in {path} again") from None
    return total or None


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors that Transformers loads from a directory.

    A second copy of the weights beside them, as Mistral's `consolidated.safetensors`, does not count.

    Raises:
        UserError: the index is damaged.
    """
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        return sorted({directory / name for name in read(index).get("weight_map", {}).values()})
    return sorted(directory.glob("*.safetensors"))
