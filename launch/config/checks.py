"""What would fail or do nothing: refused by a launch and by `make plan`, without torch."""

import re
import shutil
from typing import Any

from launch.config.compatibility import refuse_incompatible
from launch.config.judging import trained_stages
from launch.config.schema import Config, Launcher
from launch.config.shape import linears, shape_of
from launch.config.trl_options import STAGES
from launch.config.trust import refuse_untrusted
from recipes.config import UserError
from recipes.methods import ENGINES

LAUNCHERS = ("here", "local", "slurm")
STALE = KEEP, RETRAIN, REFUSE = ("keep", "retrain", "refuse")  # what becomes of a stage that other code has trained
LEAST = {"max_length": 2, "train_rows": 2, "test_rows": 2, "max_new_tokens": 1}
# Trainer options that belong to the experiment or the machine, and where they are set.
OWNED = {
    "per_device_train_batch_size": "batch_size and hardware.per_device_batch",
    "gradient_accumulation_steps": "batch_size and hardware.per_device_batch",
    "max_length": "dataset.max_length",
    "seed": "seed",
    "output_dir": "runs and the stage's digest",
    "fsdp": "hardware.strategy",
    "deepspeed": "hardware.strategy",
}
DEVICE = re.compile(r"0|[1-9]\d*|(GPU|MIG)-[\w/-]+")  # what CUDA_VISIBLE_DEVICES takes, in one way each
RATES = ("memory_gb", "tflops", "utilisation")
OUTER = {"lm_head", "embed_tokens", "score"}  # what adapters can be on beside the matrices of the layers


def refuse_useless(config: Config) -> None:
    """Refuse values of the right type that would only fail when their turn comes, hours later.

    Raises:
        UserError: naming the value and what may stand there.
    """
    for name, stages in config.pipelines.items():
        if not stages or not set(stages) <= set(STAGES):
            raise UserError(f"pipelines.{name}={stages}: a pipeline is a list of at least one of {', '.join(STAGES)}")
        refuse_order(name, stages, config.options["rloo"]["reward_model"])
        if stages[-1] == "reward" and config.evaluate:
            raise UserError(f"pipelines.{name}={stages} ends in a reward model, which answers nothing: evaluate=false")
    if not config.pipelines:
        raise UserError("pipelines is empty: choose pipeline=sft, dpo, orpo, rlhf, compare or all")
    if config.eval_prompts < 2:
        raise UserError(f"eval_prompts={config.eval_prompts}: two are the least that have an interval")
    if config.eval_samples < 1:
        raise UserError(f"eval_samples={config.eval_samples}: each prompt needs at least one answer")
    for name, least in LEAST.items():
        value = getattr(config.dataset, name)
        if value is not None and value < least:
            raise UserError(f"dataset.{name}={value}: {least} is the least")
    if not 0 < config.dataset.test_fraction < 1:
        raise UserError(f"dataset.test_fraction={config.dataset.test_fraction}: give a share between 0 and 1")
    for stage in sorted(trained_stages(config)):
        refuse_stage(stage, config.options[stage])
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed}: a seed is between 0 and 2**32 - 1")
    for name in RATES:
        value = getattr(config.hardware, name)
        if value is not None and not value > 0:
            raise UserError(f"hardware.{name}={value}: give a number above 0")
    if config.tuning != "full":
        refuse_adapters(config)
    if config.stale not in STALE:
        raise UserError(f"stale={config.stale}: use {', '.join(STALE[:-1])} or {STALE[-1]}")
    refuse_launcher(config.launcher)
    refuse_incompatible(config)


def refuse_stage(stage: str, options: dict[str, Any]) -> None:
    """Refuse a stage's options that leave nothing to train, or that no engine takes.

    Raises:
        UserError: naming the option and what may stand there.
    """
    refuse_untrusted(stage, options)
    if options["max_steps"] == 0 or (options["max_steps"] < 0 and options["num_train_epochs"] <= 0):
        raise UserError(f"{stage}.max_steps and {stage}.num_train_epochs leave nothing to train: give one above 0")
    if not 0 < options["learning_rate"] < float("inf"):
        raise UserError(f"{stage}.learning_rate={options['learning_rate']}: give a number above 0")
    if options.get("engine", "packed") not in ENGINES:
        raise UserError(f"{stage}.engine={options['engine']}: use {' or '.join(ENGINES)}")


def refuse_launcher(launcher: Launcher) -> None:
    """Refuse to run no job at all, or to hand jobs to a cluster that is not there or would stop them when they start.

    Raises:
        UserError: naming the option and what may stand there.
    """
    if launcher.name not in LAUNCHERS:
        raise UserError(f"launcher.name={launcher.name}: use {' or '.join(LAUNCHERS)}")
    devices, at_once = launcher.devices, launcher.at_once
    if devices is not None and not (0 < len(devices) == len({*devices}) and all(map(DEVICE.fullmatch, devices))):
        raise UserError(f"launcher.devices=[{','.join(devices)}]: name each device once, such as [0,1]")
    if at_once is not None and at_once < 1:
        raise UserError(f"launcher.at_once={at_once}: one job at a time is the least")
    if launcher.name != "slurm":
        if launcher.dry_run:
            raise UserError(
                f"launcher.dry_run=true prints a Slurm job, and launcher={launcher.name} has none: "
                "`make plan` or `--cfg job` show what would run"
            )
        return
    least = launcher.warning_seconds / 60
    if not launcher.minutes > least:
        raise UserError(
            f"launcher.minutes={launcher.minutes}: give more than launcher.warning_seconds, {least:g} minutes"
        )
    if shutil.which("sbatch") is None and not launcher.dry_run:
        raise UserError(
            "launcher=slurm: there is no sbatch here: type this where jobs are submitted, or add launcher.dry_run=true"
        )


def refuse_adapters(config: Config) -> None:
    """Refuse LoRA adapters without a rank, or on no matrix of the model.

    As PEFT finds them: a single target is a regular expression of a matrix's whole path, or `all-linear`; of several,
    each is the end of a path.

    Raises:
        UserError: naming the option and what may stand there.
    """
    rank, given = config.model_options["lora_r"], config.model_options["lora_target_modules"]
    if rank < 1:
        raise UserError(f"model.lora_r={rank}: adapters have a rank of at least 1, or use tuning=full")
    try:
        matrices = linears(shape_of(config.model))
    except UserError:
        return  # a family whose matrices are not known
    targets = [given] if isinstance(given, str) else list(given or [])
    if targets in ([], ["all-linear"]) or (len(targets) == 1 and not re.fullmatch(r"\w+", targets[0])):
        return
    known = {*matrices, *OUTER}
    if len(targets) == 1 or not any(target.split(".")[-1] in known for target in targets):
        raise UserError(
            f"model.lora_target_modules={given} is no matrix of {config.model.name}: use all-linear, several of "
            f"[{','.join(matrices)}], or a regular expression of the whole path such as .*{next(iter(matrices))}"
        )


def refuse_order(name: str, stages: list[str], named: str | None) -> None:
    """Refuse a pipeline whose RLOO has no reward model to ask, or two.

    Raises:
        UserError: naming the pipeline and what would do.
    """
    before = stages[: stages.index("rloo")] if "rloo" in stages else []
    if "rloo" in stages and named is None and "reward" not in before:
        raise UserError(
            f"pipelines.{name}={stages}: rloo has no reward model to ask: put reward before it, or name one by "
            "rloo.reward_model=<directory or hub id>"
        )
    if "reward" in stages and named is not None:
        raise UserError(
            f"rloo.reward_model={named}: pipelines.{name}={stages} would train another one for nothing; use "
            f"pipelines.{name}=[{','.join(stage for stage in stages if stage != 'reward')}]"
        )


def refuse_unused(config: Config, overrides: list[str]) -> None:
    """Refuse an option of a stage that no pipeline of this job has: it would do nothing.

    Raises:
        UserError: naming the option and the stages there are.
    """
    stages = trained_stages(config)
    for word in overrides:
        stage, _, option = word.lstrip("+~").split("=")[0].partition(".")
        if stage in STAGES and option in OWNED:
            raise UserError(f"{word}: this option follows from {OWNED[option]}, alike for every method; set that")
        if stage in set(STAGES) - {*stages}:
            raise UserError(
                f"{word} would do nothing: this pipeline trains {', '.join(sorted(stages))}; leave it out"
            )
