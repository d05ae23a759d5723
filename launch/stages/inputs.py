"""What must exist before anything trains: the model's files, its chat template and disk space."""

import hashlib
import math
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from launch.config.schema import Config
from launch.config.trust import looks_local
from launch.stages.digest import Start, digest
from recipes.config import UserError
from recipes.system.paths import ROOT

SMALL = 2**26  # bytes; larger files are identified by name, size and time
# Bytes per parameter: of two checkpoints and a third being written, and of a trained model, which stays.
CHECKPOINTS, MODEL = {"full": 36.0, "lora": 2.0, "qlora": 2.0}, 4.0
# Where the library of data sets keeps its cache: the first of these variables that is set, and the path below it.
CACHES = {"HF_DATASETS_CACHE": "", "HF_HOME": "datasets", "XDG_CACHE_HOME": "huggingface/datasets"}


def find_model(name: str, revision: str) -> Start:
    """Return the base model.

    Raises:
        UserError: it is neither a local directory nor on the Hub or in its cache.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                f"{path} has no config.json: set model.model_name_or_path to a Transformers model directory"
            )
        if (path / "adapter_config.json").exists():
            raise UserError(
                f"{path} has an adapter, which Transformers would apply silently: merge it into the model first, "
                "or move adapter_config.json away"
            )
        return Start(str(path), None, fingerprint(path))
    if looks_local(name):
        raise UserError(f"{path} does not exist: check model.model_name_or_path")
    return find_on_hub(name, revision)


def asked_reward_model(config: Config) -> Start | None:
    """Return where the reward model lies that `rloo.reward_model` names; None where no stage asks it.

    Raises:
        UserError: it is neither a local directory nor on the Hub or in its cache.
    """
    name = config.options["rloo"]["reward_model"]
    return None if name is None or "rloo" not in config.stages else find_reward_model(name, "rloo.reward_model")


def find_reward_model(name: str, option: str) -> Start:
    """Return where the reward model lies that an option names: its directory, a stage's that trained it, or a hub id.

    A hub id may have a revision, `organization/name@revision`; a branch is resolved to its commit.

    Raises:
        UserError: it is neither a local directory nor to be had from the hub or its cache.
    """
    if (Path(name) / "config.yaml").is_file():
        return Start(name, None, name)
    path, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
    try:
        return find_model(path, revision or "main")
    except UserError as error:
        raise UserError(str(error).replace("model.model_name_or_path", option)) from None


def find_on_hub(name: str, revision: str) -> Start:
    """Return a Hub model at its exact commit, from the local cache or the Hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    from recipes.system.hub import reachable

    local = "or point to a local copy: model.model_name_or_path=<directory>"
    try:
        config = hf_hub_download(name, "config.json", revision=revision, local_files_only=not reachable())
    except GatedRepoError:
        raise UserError(
            f"{name} is gated: accept its license on its Hub page and run `hf auth login`, {local}"
        ) from None
    except Exception:  # offline, unknown, no permission, no such revision: the client has a dozen kinds of errors
        raise UserError(
            f"{name} is not in the local cache and the Hub is unreachable or does not have it: with a "
            f"network, run `hf download {name}`, {local}"
        ) from None
    commit = Path(config).parent.name
    return Start(name, commit, f"{name}@{commit}")


def fingerprint(directory: Path) -> str:
    """Return a digest of a model directory: small files by content, large ones by name, size and time."""
    parts = []
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        stat = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.st_size < SMALL else stat.st_mtime_ns
        parts.append([path.name, stat.st_size, content])
    return digest(parts)


def with_chat_template(config: Config) -> Config:
    """Return a configuration whose model has the chat template's text instead of its name.

    Raises:
        UserError: there is no such template.
    """
    return replace(config, model=replace(config.model, chat_template=chat_template(config.model.chat_template)))


def chat_template(name: str | None) -> str | None:
    """Return the text of a chat template: a name in conf/chat_template, or a file.

    Raises:
        UserError: there is no such template.
    """
    if name is None:
        return None
    known = ROOT / "conf" / "chat_template"
    for path in (known / f"{name}.jinja", Path(name).expanduser()):
        if path.is_file():
            return path.read_text()
    names = ", ".join(sorted(path.stem for path in known.glob("*.jinja")))
    raise UserError(f"model.chat_template={name} is neither a file nor one of {names}")


def check_cache(config: Config) -> None:
    """Reject a cache of data sets that cannot be written; the embedded world needs none.

    Raises:
        UserError: the message names the variable that places it.
    """
    if config.dataset.path == "pocket":
        return
    variable = next((name for name in CACHES if os.environ.get(name)), "HOME")
    place = Path(os.environ.get(variable) or Path.home(), CACHES.get(variable, ".cache/huggingface/datasets"))
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise UserError(
            f"{variable}={os.environ.get(variable)}: {place}, where data sets are cached, cannot be written "
            f"({error.strerror}): set HF_HOME=<directory that can be>"
        ) from None


def disk(config: Config, parameters: int, stages: int) -> float:
    """Return the bytes that a job takes at most: its models, and the checkpoints of the stage that trains."""
    return parameters * (CHECKPOINTS[config.tuning] + MODEL * stages)


def check_room(config: Config, start: Start, stages: int) -> None:
    """Reject what cannot fit on the disk: the models of `stages` that are left to train, and one's checkpoints.

    Raises:
        UserError: the message says how much space is needed.
    """
    parameters = count_parameters(start.path) or config.model.parameters or 0
    runs = Path(config.runs)
    runs.mkdir(parents=True, exist_ok=True)
    needed, free = disk(config, parameters, stages), shutil.disk_usage(runs).free
    if needed > free:
        raise UserError(
            f"no space left: {stages} stages need about {needed / 1e9:.2f} GB under {runs}/ and {free / 1e9:.2f} GB "
            "are free: free some space, or set runs=<directory on a larger disk>"
        )


def count_parameters(path: str) -> int | None:
    """Count a local model's weights from the headers of its safetensors files; None if there are none.

    Raises:
        UserError: a file is damaged.
    """
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    total = 0
    for file in files:
        try:
            with safe_open(file, "numpy") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is damaged ({error}): copy or download the model in {path} again") from None
    return total or None
