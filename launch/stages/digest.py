"""From a resolved configuration to stage directories: names, digests, initial checkpoints. Pure functions."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.config.idle import steered
from launch.config.schema import Config
from recipes.config import FORMAT, SPLIT, UserError, splits_alike
from recipes.methods import METHODS

# Trainer options that cannot change a weight: where files go, and what is logged.
UNSCIENTIFIC = {
    *("output_dir", "run_name", "project", "report_to", "disable_tqdm", "trackio_space_id"),
    *("logging_dir", "logging_strategy", "logging_steps", "logging_first_step", "log_level", "log_level_replica"),
    *("log_on_each_node", "include_num_input_tokens_seen", "save_total_limit", "save_only_model", "save_on_each_node"),
    *(
        "push_to_hub",
        "hub_model_id",
        "hub_strategy",
        "hub_token",
        "hub_private_repo",
        "hub_always_push",
        "hub_revision",
    ),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("dataset_num_proc", "ddp_timeout"),
    "dataset",  # of SFT: what it names is in the digest
}
# Neither can these, unless evaluations steer the training.
WHEN = {"save_strategy", "save_steps", "eval_strategy", "eval_steps", "eval_on_start", "eval_delay"}


@dataclass(frozen=True)
class Start:
    """The weights that a stage starts from."""

    path: str  # a directory or a Hub id
    revision: str | None
    identity: str  # changes when the weights do


@dataclass(frozen=True)
class Demonstrations:
    """The prepared rows of `sft.dataset`."""

    directory: Path
    fingerprint: str  # of their ids


@dataclass(frozen=True)
class Planned:
    """A stage to train: its directory, and the content of its config.yaml."""

    directory: Path
    config: dict[str, Any]
    stale: str = "keep"  # what to do if other code trained it, see launch.stages.stale


def plan(
    config: Config,
    stages: list[str],
    start: Start,
    pairs: Path,
    fingerprint: str,
    reward: Start | None = None,
    demonstrations: Demonstrations | None = None,
) -> list[Planned]:
    """Return one pipeline's stages in order; each starts from the language model before it.

    No stage starts from a reward model. RLOO queries the last one before it, or `reward`, one trained elsewhere. SFT
    trains on `demonstrations` where there are any.
    """
    planned: list[Planned] = []
    for stage in stages:
        asked = reward if stage == "rloo" else None
        shown = demonstrations if stage == "sft" else None
        planned.append(plan_stage(config, stage, start, pairs, fingerprint, asked, demonstrations=shown))
        trained = Start(str(planned[-1].directory / "model"), None, planned[-1].config["digest"])
        start, reward = (start, trained) if not METHODS[stage].answers else (trained, reward)
    return planned


def plan_stage(
    config: Config,
    stage: str,
    start: Start,
    pairs: Path,
    fingerprint: str,
    reward: Start | None = None,
    split: dict[str, str] | None = None,
    demonstrations: Demonstrations | None = None,
) -> Planned:
    """Return one stage. *Same training, same directory*: the digest covers all that changes the weights."""
    values: dict[str, Any] = {
        "format": FORMAT,
        "stage": stage,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "start": start.path,
        "start_revision": start.revision,
        "model": asdict(config.model),
        "model_options": config.model_options,
        "pairs": str(pairs),
        "processes": config.hardware.processes,
        "nodes": config.hardware.nodes,
        "options": dict(config.options[stage]),
        **({"reward_model": reward.path, "reward_revision": reward.revision} if reward else {}),
        **({"demonstrations": str(demonstrations.directory)} if demonstrations else {}),
        **(split or {}),
    }
    read = {
        "start": start.identity,
        "pairs": fingerprint,
        **({"reward_model": reward.identity} if reward else {}),
        **({"demonstrations": demonstrations.fingerprint} if demonstrations else {}),
        **(split or {}),
    }
    values["digest"] = digest(decisive(values, chosen_alike(config, stage)) | read)
    directory = home(config) / f"{stage}-{values['digest']}"
    values["options"]["run_name"] = values["options"]["run_name"] or directory.name
    return Planned(directory, values, config.stale)


def decisive(values: dict[str, Any], chosen: Iterable[str]) -> dict[str, Any]:
    """Return those settings of a stage that can change a weight; options that are `chosen` for a machine cannot."""
    return {
        **{key: values[key] for key in ("stage", "seed", "batch_size", "processes", "model_options")},
        "options": scientific(values["options"]) | dict.fromkeys(chosen),
        "model": {key: values["model"][key] for key in ("chat_template", "stop_tokens", "pad_token")},
    }


def scientific(options: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer options that can change a weight."""
    ignored = UNSCIENTIFIC if steered(options) else UNSCIENTIFIC | WHEN
    return {key: value for key, value in options.items() if key not in ignored}


def chosen_alike(config: Config, stage: str) -> list[str]:
    """Return a stage's options that the forecast chooses and that change no result: any choice is the same training.

    Where the result depends on the micro-batch, its size stays in the digest.
    """
    hardware = config.hardware
    split = hardware.per_device_batch is None and splits_alike(config.options[stage])
    checkpointing = hardware.activation_checkpointing is None
    return [*(SPLIT if split else ()), *(["activation_checkpointing"] if checkpointing else [])]


def digest(value: Any) -> str:
    """Return eight hex digits that name `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def home(config: Config) -> Path:
    """Return the directory of all stages of a model on a data set.

    Raises:
        UserError: a profile's name could point outside `runs/`.
    """
    names = [config.model.name, config.dataset.name]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", str(name)):
            raise UserError(
                f"{name!r} cannot name a directory: in a profile's name use letters, digits, '.', '_', '+' and '-', "
                "a letter or digit first"
            )
    return Path(config.runs, *names)
