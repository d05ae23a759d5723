"""The schema of `conf/`: our few dataclasses, and TRL's options mirrored under TRL's own names.

A typo or a wrong type is therefore an error at composition.
"""

import dataclasses
from dataclasses import dataclass, field
from functools import reduce
from operator import floordiv, getitem, mul
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from launch.config.machine import auto
from launch.config.parallelism import shared
from launch.config.session import Session
from launch.config.trl_options import STAGES, TYPES, trl_options
from recipes.config import UserError
from recipes.profiles import Dataset, Estimate, Hardware, Model, Policies
from recipes.system.paths import expanded, usual


@dataclass
class Launcher:
    """Where jobs run; for `local` see docs/sweeps.md. Everything else is for Slurm, see docs/cluster.md."""

    name: str = "here"  # or local, slurm
    devices: list[str] | None = None  # of `local`: names for CUDA_VISIBLE_DEVICES; null: all GPUs of this machine
    partition: str | None = None  # null: the cluster's default, here and below
    account: str | None = None
    qos: str | None = None
    minutes: int = 1440  # a job's time limit
    warning_seconds: int = 120  # before the limit; then a job writes a checkpoint and is queued again
    requeues: int = 20  # how often a job that ran out of time is queued again
    at_once: int | None = 256  # most jobs of a sweep that run at the same time; null: for `local` as many as fit
    gpus_per_node: int | None = None  # null: as many as the hardware profile has processes on a node; none on CPUs
    cpus_per_task: int | None = None  # of a node
    memory_gb: float | None = None  # of a node
    setup: list[str] = field(default_factory=list)  # lines of shell before a job, such as `module load cuda`
    sbatch: dict[str, Any] = field(
        default_factory=dict
    )  # sbatch's other options under its names: constraint, reservation
    dry_run: bool = False  # print what would be submitted, and submit nothing


@dataclass
class Root:
    """The root of `conf/`, but for `model` and the stages, which are TRL's options too: `register` adds them."""

    dataset: Dataset = MISSING
    hardware: Hardware = MISSING
    launcher: Launcher = MISSING
    pipelines: dict[str, list[str]] = MISSING  # name -> the stages it trains, in order
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)  # pipeline -> its own options, found by tune=
    tuned_by: str | None = None  # how a profile's or an experiment's settings were found; the table's scope repeats it
    batch_size: int = 32  # pairs per optimizer step, whatever the machine
    seed: int = 0  # of the order of the pairs, of adapters and heads at the start, of sampled responses
    evaluate: bool = False  # after training, sample responses, score them and print the table
    eval_prompts: int = 400  # held-out prompts to respond to
    eval_split: str | None = None  # test or validation; null: validation where options of training are swept, else test
    eval_samples: int = 1  # responses to each of them at temperature 1
    eval_text: str | None = None  # plain text on which forgetting shows; null: ours, or the embedded world's
    judge: str = "auto"  # who decides a comparison: gold, trained, reward:<model>, llm, people, none
    compare_with: str | None = None  # the pipeline that each other one is tested against; null: all against all
    budget: str | None = None  # what is matched between pipelines: pairs, tokens or flops; see launch.forecast.budget
    budget_of: str | None = None  # the pipeline that spends it as configured; null: the one with the most stages
    tracker: str = "none"  # wandb, tensorboard, mlflow or trackio; of one stage, or several trackers: report_to
    stale: str = "keep"  # or retrain, refuse: what to do with a stage trained before our code changed
    runs: str = "runs"  # where stages, prepared pairs and sessions are written
    session: str | None = None  # name of its directory under runs/_sessions; null: the time


@dataclass(kw_only=True)
class Config(Root):
    """A composed configuration, complete and with interpolations resolved: what the launcher works with."""

    model: Model
    model_options: dict[str, Any]  # trl.ModelConfig's, in addition to `model`: dtype, attention, LoRA, quantization
    options: dict[str, dict[str, Any]]  # stage -> its trainer's options under TRL's names; for all stages

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Config":
        """Build it from plain composed values: `model` holds our options and TRL's, and each stage has a key."""
        rest = dict(values)
        model, options = rest.pop("model"), {stage: rest.pop(stage) for stage in STAGES}
        parts = {name: part(**rest.pop(name)) for name, part in PARTS.items()}
        return cls(
            model=Model(**{key: value for key, value in model.items() if key in OURS}),
            model_options={key: value for key, value in model.items() if key not in OURS},
            options=options,
            **parts,
            **rest,
        )

    def to_values(self) -> dict[str, Any]:
        """Return plain values in their composed form, for a file or a digest."""
        values = dataclasses.asdict(self)
        options, model_options = values.pop("options"), values.pop("model_options")
        return values | {"model": values["model"] | model_options} | options

    def of(self, pipeline: str) -> "Config":
        """Return the configuration that a pipeline's stages train with: this one, with what was tuned for it."""
        own = self.tuned.get(pipeline)
        if not own:
            return self
        options = {stage: dict(values) for stage, values in self.options.items()}
        for name, value in own.items():
            stage, _, option = name.partition(".")
            real = isinstance(options[stage][option], float)  # 3 and 3.0 epochs are one training
            options[stage][option] = float(value) if real else value
        return dataclasses.replace(self, options=options)

    @property
    def stages(self) -> list[str]:
        """The stages that the pipelines train, each once."""
        return list(dict.fromkeys(stage for stages in self.pipelines.values() for stage in stages))

    @property
    def tuning(self) -> str:
        """How much of the model trains: full, lora or qlora."""
        if not self.model_options["use_peft"]:
            return "full"
        return "qlora" if self.model_options["load_in_4bit"] or self.model_options["load_in_8bit"] else "lora"


PARTS = {"dataset": Dataset, "hardware": Hardware, "launcher": Launcher}
OURS = {option.name for option in dataclasses.fields(Model)}


def node(name: str, options: dict[str, list[Any]], base: type = object) -> type:
    """Build the dataclass that adds `options`, their names, types and defaults, to those of `base`."""
    ours = {option.name for option in dataclasses.fields(base)} if base is not object else set()
    fields = [
        (key, TYPES[of], field(default_factory=lambda value=default: value))
        for key, (of, default) in options.items()
        if key not in ours
    ]
    # never instantiated, so making its methods would only slow down every start
    return dataclasses.make_dataclass(name, fields, bases=(base,), init=False, repr=False, eq=False)


def given(value: Any, other: Any) -> Any:
    """Return a value, or the other one if it is null."""
    return other if value is None else value


def micro_batch(most: int, batch_size: int, processes: int) -> int:
    """Return the largest micro-batch of at most `most` pairs that divides a batch; `most` where none does."""
    fitting = (size for size in range(most, 0, -1) if batch_size % (size * max(processes, 1)) == 0)
    return next(fitting, most)


def accumulate(batch_size: int, per_device: int | None, processes: int) -> int:
    """Return how many micro-batches make one optimizer step; of one pair where their size is open.

    Raises:
        UserError: `batch_size` is no multiple of the pairs in one micro-batch of all processes.
    """
    at_once = given(per_device, 1) * processes
    if min(batch_size, given(per_device, 1), processes) < 1:
        raise UserError("batch_size, hardware.per_device_batch and hardware.processes must be at least 1")
    if batch_size % at_once:
        if per_device is None:
            below = at_once * (batch_size // at_once)
            use = f"{below} or {below + at_once}" if below else f"{at_once}"
            raise UserError(f"batch_size={batch_size} must be a multiple of hardware.processes={processes} (use {use})")
        nearest = at_once * max(1, round(batch_size / at_once))
        raise UserError(
            f"batch_size={batch_size} is no multiple of {at_once} (hardware.per_device_batch={per_device} pairs "
            f"x hardware.processes={processes}): use batch_size={nearest}, or a hardware.per_device_batch that "
            "divides it"
        )
    return batch_size // at_once


def resolve(config: DictConfig) -> Config:
    """Return a composed configuration, interpolations resolved.

    Raises:
        UserError: `+` added a key that no part of the project would read.
        OmegaConfBaseException: a value is missing, or cannot be derived.
    """
    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    values["runs"] = str(expanded(values["runs"]))
    if isinstance(asked := values["rloo"]["reward_model"], str):
        values["rloo"]["reward_model"] = usual(asked)  # it is in the stage's digest
    options = trl_options()
    known = {"": {*names_of(Root), "model", *STAGES}, **{name: names_of(part) for name, part in PARTS.items()}}
    known |= {"dataset.policies": names_of(Policies), "dataset.estimate": names_of(Estimate)}
    known |= {"model": OURS | set(options["model"])} | {stage: set(options[stage]) for stage in STAGES}
    for section, names in known.items():
        for key in sorted(set(reduce(getitem, filter(None, section.split(".")), values)) - names):
            path = f"{section}.{key}" if section else key
            raise UserError(f"+{path}: no such option; `python -m launch --cfg job` lists all")
    return Config.from_values(values)


def names_of(source: type) -> set[str]:
    """Return the names of a dataclass's fields."""
    return {option.name for option in dataclasses.fields(source)}


def register(session: Session | None = None) -> None:
    """Register the schema, TRL's options, the detected machine and the session for `conf/`."""
    options = trl_options()
    store = ConfigStore.instance()
    model = node("Model", options["model"], Model)
    parts = [("model", model, MISSING), *((stage, Any, None) for stage in STAGES)]
    root = dataclasses.make_dataclass("Config", parts, bases=(Root,))
    store.store(name="schema", node=root)
    for stage in STAGES:
        store.store(group="trl", name=stage, node=node(f"{stage.upper()}Config", options[stage]))
    store.store(name="stages", node={"defaults": [{f"stage@{stage}": stage} for stage in STAGES]})
    store.store(group="hardware", name="auto", node=auto())
    OmegaConf.register_new_resolver("accumulate", accumulate, replace=True)
    OmegaConf.register_new_resolver("micro_batch", micro_batch, replace=True)
    OmegaConf.register_new_resolver("given", given, replace=True)
    OmegaConf.register_new_resolver("times", mul, replace=True)
    OmegaConf.register_new_resolver("divided", floordiv, replace=True)
    OmegaConf.register_new_resolver("shared", shared, replace=True)
    OmegaConf.register_new_resolver("session", (session or Session()).place, use_cache=True, replace=True)
