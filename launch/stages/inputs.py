"""What must exist before anything trains: the model's files, its chat template and disk space."""

import hashlib
import os
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from launch.config.schema import Config
from launch.config.trust import looks_local
from launch.named.files import count_parameters, hub_file, read_files
from launch.named.packages import fetch, package_at
from launch.named.tokens import added_tokens, find_stops
from launch.stages.digest import Start, digest
from launch.stages.processes import call
from recipes.config import UserError
from recipes.system.commands import console
from recipes.system.paths import ROOT, exists, expanded

SMALL = 2**26  # bytes; larger files are identified by name, size and time
# Bytes per parameter: of two checkpoints and a third being written, and of a trained model, which stays.
CHECKPOINTS, MODEL = {"full": 36.0, "lora": 2.0, "qlora": 2.0}, 4.0
# Where the library of data sets keeps its cache: the first of these variables that is set, and the path below it.
CACHES = {"HF_DATASETS_CACHE": "", "HF_HOME": "datasets", "XDG_CACHE_HOME": "huggingface/datasets"}


def find_model(name: str, revision: str) -> Start:
    """Return the base model.

    Raises:
        UserError: it is neither a local directory nor on the Hub, in its cache, or in a package.
    """
    path = expanded(name)
    if not path.is_dir() and (package := package_at(name)):
        fetch(package)
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
    """Return where the reward model lies that `rloo.reward_model` names; None where no stage queries it.

    Raises:
        UserError: it is neither a local directory nor on the Hub or in its cache.
    """
    name = config.options["rloo"]["reward_model"]
    if name is None or "rloo" not in config.stages:
        return None
    trained = expanded(name) / "model"  # of a stage's directory
    return find_reward_model(str(trained) if trained.is_dir() else name, "rloo.reward_model")


def check_reads(config: Config, reward: Start, pairs: Path) -> None:
    """Have the reward model that `rloo.reward_model` names write RLOO's prompts: RLOO trains last, and would fail then.

    Raises:
        UserError: its chat template rejects one.
    """
    evaluates = config.options["rloo"]["eval_strategy"] != "no"
    call(read_prompts, reward, pairs, ["train", *(["test"] if evaluates else [])])


def read_prompts(reward: Start, pairs: Path, splits: list[str]) -> None:
    """Write the prompts in a process that has the libraries."""
    from recipes.data.pairs import load_prompts
    from recipes.training.reward_model import check_template

    prompts = load_prompts(pairs)
    for split in splits:
        check_template(reward.path, reward.revision, prompts[split]["messages"])


def find_reward_model(name: str, option: str) -> Start:
    """Return where the reward model lies that an option names: its directory, a stage's that trained it, or a hub id.

    A hub id may have a revision, `organization/name@revision`; a branch is resolved to its commit.

    Raises:
        UserError: it is neither a local directory nor to be had from the hub or its cache.
    """
    place = expanded(name)
    if (place / "config.yaml").is_file():
        return Start(str(place), None, str(place))
    path, _, revision = (name, "", "") if exists(name) else name.partition("@")
    try:
        return find_model(path, revision or "main")
    except UserError as error:
        raise UserError(str(error).replace("model.model_name_or_path", option)) from None


def find_on_hub(name: str, revision: str) -> Start:
    """Return a Hub model at its exact commit, from the local cache or the Hub.

    Raises:
        UserError: it cannot be had.
    """
    commit = hub_file(name, "config.json", revision).parent.name
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
    """Return a configuration whose model has the chat template's text instead of its name, and stop tokens.

    Raises:
        UserError: there is no such template, or the model whose stop tokens are asked for cannot be read.
    """
    model = replace(config.model, chat_template=chat_template(config.model.chat_template))
    if not model.stop_tokens:
        stops = own_stop_tokens(model.model_name_or_path, model.model_revision, model.chat_template)
        model = replace(model, stop_tokens=list(stops))
    return replace(config, model=model)


@cache
def own_stop_tokens(name: str, revision: str, template: str | None) -> tuple[str, ...]:
    """Return the tokens at which a model stops by its own settings and its template, and tell doubts once.

    Raises:
        UserError: there is no such model, or a file is damaged.
    """
    files = read_files(name, revision)
    stops, doubts = find_stops(files, template or files.template or "", added_tokens(files))
    for doubt in doubts:
        console.print(f"       {name}: {doubt}", soft_wrap=True)
    return tuple(stops)


def chat_template(name: str | None) -> str | None:
    """Return the text of a chat template: a name in conf/chat_template, or a file.

    Raises:
        UserError: there is no such template.
    """
    if name is None:
        return None
    known = ROOT / "conf" / "chat_template"
    for path in (known / f"{name}.jinja", expanded(name)):
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
            f"({error.strerror}): set HF_HOME=<writable directory>"
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
    if stages and needed > free:
        raise UserError(
            f"no space left: to train {stages} stage{'s' * (stages > 1)}, about {needed / 1e9:.2f} GB are needed under "
            f"{runs}/, and {free / 1e9:.2f} GB are free: free some space, or set runs=<directory on a larger disk>"
        )
