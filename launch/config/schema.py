"""The schema of `conf/`: our few dataclasses, and TRL's options mirrored under TRL's own names.

A typo and a wrong type are thereby errors at composition.
"""

import dataclasses
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import getitem, mul
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from launch.config.machine import detect
from launch.config.parallelism import shared
from launch.config.trl_options import STAGES, TYPES, trl_options
from recipes.config import UserError
from recipes.profiles import Dataset, Estimate, Hardware, Model, Policies

sessions: list[Path] = []  # this invocation's directory, once Hydra has asked for it


@dataclass
class Launcher:
    """Where jobs run; see docs/sweeps.md for `local`. All else is what Slurm is asked for, see docs/cluster.md."""

    name: str = "here"  # or local, slurm
    devices: list[str] | None = None  # of `local`: names for CUDA_VISIBLE_DEVICES; null: all GPUs of this machine
    partition: str | None = None  # null: the cluster's default, here and below
    account: str | None = None
    qos: str | None = None
    minutes: int = 1440  # a job's time limit
    warning_seconds: int = 120  # before the limit, when a job writes its checkpoint and is queued again
    requeues: int = 20  # how often a job that ran out of time is queued again
    at_once: int | None = 256  # most jobs of a sweep that run at the same time; null, of `local`: as many as fit
    gpus_per_node: int | None = None  # null: as many as the hardware profile has processes on a node; none on CPUs
    cpus_per_task: int | None = None  # of a node
    memory_gb: float | None = None  # of a node
    setup: list[str] = field(default_factory=list)  # lines of shell before a job, such as `module load cuda`
    sbatch: dict[str, Any] = field(
        default_factory=dict
    )  # sbatch's other options under its names: constraint, reservation
    dry_run: bool = False  # print what would be handed to sbatch, and hand nothing over


@dataclass
class Config:
    """The root of `conf/`."""

    model: Any = MISSING  # `Model` and TRL's ModelConfig in one, see `register`
    dataset: Dataset = MISSING
    hardware: Hardware = MISSING
    launcher: Launcher = MISSING
    pipelines: dict[str, list[str]] = MISSING  # name -> the stages it trains, in order
    batch_size: int = 32  # pairs per update, whatever the machine
    seed: int = 0
    sft: Any = None
    dpo: Any = None
    orpo: Any = None
    reward: Any = None
    rloo: Any = None
    evaluate: bool = False  # sample answers, score them and print the table when all is trained
    eval_prompts: int = 400  # held-out prompts that are answered
    budget: str | None = (
        None  # what all pipelines spend alike: pairs, tokens, flops or seconds; see launch.forecast.budget
    )
    budget_of: str | None = None  # the pipeline that spends it as configured; null: the one with the most stages
    stale: str = "keep"  # or retrain, refuse: a stage that was trained before our code changed
    runs: str = "runs"
    session: str | None = None  # its directory's name under runs/_sessions; null: the time


def node(name: str, options: dict[str, list[Any]], base: type = object) -> type:
    """Build the dataclass that adds `options`, their names, types and defaults, to those of `base`."""
    ours = {option.name for option in dataclasses.fields(base)} if base is not object else set()
    fields = [
        (key, TYPES[of], field(default_factory=lambda value=default: value))
        for key, (of, default) in options.items()
        if key not in ours
    ]
    # no such object is ever made: its methods would cost every start their making
    return dataclasses.make_dataclass(name, fields, bases=(base,), init=False, repr=False, eq=False)


def session(runs: str, name: str | None, dry_run: bool) -> str:
    """Return the directory of this invocation of the launcher; the same one for all its jobs.

    A session that is named may have been there before: what it said of its jobs is taken away, and said again. A dry
    run has one of its own, which is removed.

    Raises:
        UserError: the name could leave `runs/`.
    """
    if not sessions:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
            raise UserError(f"session={name}: use letters, digits, '.', '_', '+' and '-', a letter or digit first")
        name = (None if dry_run else name) or f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{os.getpid()}"
        sessions.append(Path(runs, "_sessions", name).expanduser())
        for old in sessions[0].glob("*/job.json"):
            old.unlink()
    return str(sessions[0])


def accumulate(batch_size: int, per_device: int, processes: int) -> int:
    """Return how many micro-batches make one update.

    Raises:
        UserError: `batch_size` is no multiple of what the machine takes at once.
    """
    at_once = per_device * processes
    if batch_size < 1 or per_device < 1 or processes < 1:
        raise UserError("batch_size, hardware.per_device_batch and hardware.processes must be at least 1")
    if batch_size % at_once:
        nearest = at_once * max(1, round(batch_size / at_once))
        raise UserError(
            f"batch_size={batch_size} is no multiple of {at_once} (hardware.per_device_batch={per_device} pairs "
            f"x hardware.processes={processes}): use batch_size={nearest}, or a per_device_batch that divides it"
        )
    return batch_size // at_once


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain values, interpolations resolved.

    Raises:
        UserError: `+` added a key that no part of the project would read.
        OmegaConfBaseException: a value is missing, or cannot be derived.
    """
    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    values["runs"] = str(Path(values["runs"]).expanduser())
    options = trl_options()
    known = {"": _names(Config), "dataset": _names(Dataset), "hardware": _names(Hardware)}
    known |= {"launcher": _names(Launcher)}
    known |= {"dataset.policies": _names(Policies), "dataset.estimate": _names(Estimate)}
    known |= {"model": _names(Model) | set(options["model"])} | {stage: set(options[stage]) for stage in STAGES}
    for section, names in known.items():
        for key in sorted(set(reduce(getitem, filter(None, section.split(".")), values)) - names):
            path = f"{section}.{key}" if section else key
            raise UserError(f"+{path}: there is no such option; `python -m launch --cfg job` lists all")
    return values


def _names(source: type) -> set[str]:
    return {option.name for option in dataclasses.fields(source)}


def register() -> None:
    """Put the schema, TRL's options and the detected machine where `conf/` finds them."""
    options = trl_options()
    store = ConfigStore.instance()
    model = node("Model", options["model"], Model)
    root = dataclasses.make_dataclass("Config", [("model", model, MISSING)], bases=(Config,))
    store.store(name="schema", node=root)
    for stage in STAGES:
        store.store(group="trl", name=stage, node=node(f"{stage.upper()}Config", options[stage]))
    store.store(group="hardware", name="auto", node={"defaults": [detect()]})
    OmegaConf.register_new_resolver("accumulate", accumulate, replace=True)
    OmegaConf.register_new_resolver("times", mul, replace=True)
    OmegaConf.register_new_resolver("shared", shared, replace=True)
    OmegaConf.register_new_resolver("session", session, use_cache=True, replace=True)


def mixture(word: str) -> list[str]:
    """Spell `dataset=[a,b]` as the options it stands for; a list is no profile, and Hydra would look for one."""
    name, _, value = word.partition("=")
    if name == "dataset" and value.startswith("[") and value != "[]":
        return ["dataset=mixture", f"dataset.sources={value}"]
    return [word]
