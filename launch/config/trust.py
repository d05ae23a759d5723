"""What a command and a configuration may not do: run code, hold a secret, publish; and what should be pinned."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.config.schema import Config
from recipes.config import UserError
from recipes.system.secrets import redact

# Hydra has more flags: some name folders of configurations, and one, --experimental-rerun, a pickle that is loaded.
FLAGS = {"-m", "--multirun", "-c", "--cfg", "-p", "--package", "--resolve", "-h", "--help"}
HYDRA = re.compile(r"[+~/]*([^=]*@)?hydra\b")
REFUSED = {
    "trust_remote_code": "code of a model's repository is never run here: name a model that Transformers itself knows",
    "hub_token": "it would be written into config.yaml: export HF_TOKEN instead",
    "save_only_model": "its checkpoints could not be resumed, and so older ones would stay: leave it out",
    "push_to_hub": "it would publish logs and checkpoints, and a hub that fails would stop the training: "
    "`make push RUN=… TO=…` sends the finished model alone",
}
COMMIT = re.compile(r"[0-9a-f]{40}")


def refuse_words(words: list[str]) -> None:
    """Refuse words of a command line by which Hydra would call what they name, or write a secret down.

    Before Hydra sees them: it keeps all words in the session, and calls what it finds under `hydra` in its search path,
    which is `conf/` and stays that.

    Raises:
        UserError: naming the word, never a secret's value.
    """
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("-") and name not in FLAGS:
            raise UserError(f"{name}: no such flag here; there are {', '.join(sorted(FLAGS))}; profiles go into conf/")
        if HYDRA.match(name) or "_target_" in word:
            raise UserError(f"{name}: an option names a value, and nothing that is called; leave it out")
        if name.endswith("hub_token"):
            raise UserError(f"{redact(name)} is refused: {REFUSED['hub_token']}")
        if redact(word) != word:
            raise UserError(f"{redact(name)}: holds a secret of this environment, which would be written down")


def refuse_untrusted(stage: str, options: dict[str, Any]) -> None:
    """Refuse a stage's options that run foreign code, hold a secret, or publish.

    Raises:
        UserError: naming the option, never its value.
    """
    for option, reason in REFUSED.items():
        if options.get(option):
            raise UserError(f"{stage}.{option} is refused: {reason}")


def unpinned(config: Config) -> Iterator[str]:
    """Yield a line for the model and the data set of the hub that may be other ones tomorrow."""
    model, dataset = config.model, config.dataset
    name, revision = model.model_name_or_path, model.model_revision
    local = model.pocket_size or looks_local(name) or Path(name).exists()
    if not local and not COMMIT.fullmatch(revision or ""):
        yield f"{name} follows {revision}: pin model.model_revision=<commit> to have the same weights tomorrow"
    path = dataset.path
    local = path in ("pocket", "mixture") or Path(path).suffix or looks_local(path) or Path(path).exists()
    if not local and not COMMIT.fullmatch(dataset.revision or ""):
        yield f"{path} follows {dataset.revision or 'main'}: pin dataset.revision=<commit> to have the same rows"


def looks_local(name: str) -> bool:
    """Whether a model's name can only be meant as a path; hub ids have at most one slash."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1
