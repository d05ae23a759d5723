"""What a configuration may not do: run code, hold a secret, publish by the way; and what it should pin."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.inputs import looks_local
from recipes.config import UserError

INSTANTIATED = re.compile(r"[+~]*hydra[./](callbacks|job_logging|hydra_logging)\b")
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
REFUSED = {
    "trust_remote_code": "code of a model's repository is never run here: name a model that Transformers itself knows",
    "hub_token": "it would be written into config.yaml: export HF_TOKEN instead",
    "push_to_hub": "it would publish logs and checkpoints, and a hub that fails would stop the training: "
    "`make push RUN=… TO=…` sends the finished model alone",
}
COMMIT = re.compile(r"[0-9a-f]{40}")


def refuse_code(words: list[str]) -> None:
    """Refuse words by which Hydra would call what a configuration names, before it composes one.

    Raises:
        UserError: naming the word, or the file in a folder of configurations that is none of ours.
    """
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if "_target_" in word or INSTANTIATED.match(name):
            raise UserError(f"{name}: a configuration names values, and nothing that is called; leave it out")
        if name in FOLDERS:
            for file in Path(value or " ".join(words[number + 1 : number + 2])).expanduser().rglob("*.yaml"):
                if "_target_" in file.read_text(errors="replace"):
                    raise UserError(f"{file} names a _target_, which would be called: leave it out")


def refuse_untrusted(stage: str, options: dict[str, Any]) -> None:
    """Refuse a stage's options that run foreign code, hold a secret, or publish.

    Raises:
        UserError: naming the option, never its value.
    """
    for option, reason in REFUSED.items():
        if options.get(option):
            raise UserError(f"{stage}.{option} is refused: {reason}")


def unpinned(config: dict[str, Any]) -> Iterator[str]:
    """Yield a line for the model and the data set of the hub that may be other ones tomorrow."""
    model, dataset = config["model"], config["dataset"]
    name, revision = model["model_name_or_path"], model["model_revision"]
    local = model["pocket_size"] or looks_local(name) or Path(name).exists()
    if not local and not COMMIT.fullmatch(revision or ""):
        yield f"{name} follows {revision}: pin model.model_revision=<commit> to have the same weights tomorrow"
    path = dataset["path"]
    local = path in ("pocket", "mixture") or Path(path).suffix or looks_local(path) or Path(path).exists()
    if not local and not COMMIT.fullmatch(dataset["revision"] or ""):
        yield f"{path} follows {dataset['revision'] or 'main'}: pin dataset.revision=<commit> to have the same rows"
