"""Reject commands and configurations that run code, hold a secret or publish; name what should be pinned."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.config.schema import Config
from recipes.config import UserError
from recipes.data.files import is_local
from recipes.profiles import Dataset
from recipes.system.secrets import redact

# Hydra has more flags: some name folders of configurations, and --experimental-rerun loads a pickle.
FLAGS = {"-m", "--multirun", "-c", "--cfg", "-p", "--package", "--resolve", "-h", "--help", "--help=all", "--check"}
HYDRA = re.compile(r"[+~/]*([^=]*@)?hydra\b")
REFUSED = {
    "trust_remote_code": "code from a model's repository is never run: use a model that Transformers itself supports",
    "hub_token": "it would be written to config.yaml: export HF_TOKEN instead",
    "save_only_model": "its checkpoints could not be resumed: remove this option",
    "sync_ref_model": "no checkpoint has the reference model, and a resumed training would begin with the first one "
    "again: remove this option",
    "fp16": "its loss scale overflows by design, which is taken for a gradient that is not finite: use bf16, or "
    "hardware.bf16=false for float32",
    "model_init_kwargs": "the model is loaded with the options of `model.`: use these",
    "restore_callback_states_from_checkpoint": "resuming would make every callback anew without what it needs, and "
    "needs no option: remove it",
    "push_to_hub": "it would publish logs and checkpoints, and a hub that fails would stop the training: "
    "`make push RUN=… TO=…` uploads the finished model",
}
COMMIT = re.compile(r"[0-9a-f]{40}")


def refuse_words(words: list[str]) -> None:
    """Reject words of a command line with which Hydra would call code, or write a secret to disk.

    This runs before Hydra, which writes all words to the session and instantiates what it finds under `hydra` in its
    search path. That path stays `conf/`.

    Raises:
        UserError: the message names the word, never a secret's value.
    """
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("-") and name not in FLAGS:
            raise UserError(f"{name}: unsupported flag; use {', '.join(sorted(FLAGS))}, and put profiles into conf/")
        if HYDRA.match(name) or "_target_" in word:
            raise UserError(f"{name}: options that name code to call are not allowed; remove it")
        if name.endswith("hub_token"):
            raise UserError(f"{redact(name)} is not allowed: {REFUSED['hub_token']}")
        if redact(word) != word:
            raise UserError(f"{redact(name)} would write a secret of this environment to disk: remove it")


def refuse_untrusted(stage: str, options: dict[str, Any]) -> None:
    """Reject a stage's options that run foreign code, hold a secret, or publish.

    Raises:
        UserError: the message names the option, never its value.
    """
    for option, reason in REFUSED.items():
        if options.get(option):
            raise UserError(f"{stage}.{option} is not allowed: {reason}")


def unpinned(config: Config) -> Iterator[str]:
    """Yield a line for a model or data set of the Hub that is not pinned to a commit."""
    model = config.model
    name, revision = model.model_name_or_path, model.model_revision
    local = model.pocket_size or looks_local(name) or Path(name).exists()
    if not local and not COMMIT.fullmatch(revision or ""):
        yield f"{name} follows {revision}: pin model.model_revision=<commit> to have the same weights tomorrow"
    if line := follows(config.dataset):
        yield f"{line}: pin dataset.revision=<commit> to have the same rows"


def follows(dataset: Dataset) -> str | None:
    """Return what a data set of the Hub follows, if it is not pinned to a commit."""
    path = dataset.path
    local = path in ("pocket", "mixture") or is_local(path) or looks_local(path)
    if local or COMMIT.fullmatch(dataset.revision or ""):
        return None
    return f"{path} follows {dataset.revision or 'main'}"


def looks_local(name: str) -> bool:
    """Whether a model's name can only be a path; Hub ids have at most one slash."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1
