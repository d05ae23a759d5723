"""Reject values that would fail or do nothing, in a launch and in `make plan`; needs no torch."""

import math
import re
import shutil
from typing import Any

from launch.config.compatibility import refuse_incompatible
from launch.config.idle import TOKENIZED
from launch.config.judging import trained_stages
from launch.config.schema import Config, Launcher
from launch.config.shape import linears, shape_of
from launch.config.trl_options import STAGES, trl_options
from launch.config.trust import refuse_untrusted
from recipes.config import UserError, late
from recipes.data.files import check_source
from recipes.methods import ENGINES

LAUNCHERS = ("here", "local", "slurm")
STALE = KEEP, RETRAIN, REFUSE = ("keep", "retrain", "refuse")  # what to do with a stage that other code trained
LEAST = {"max_length": 2, "train_rows": 2, "test_rows": 2, "max_new_tokens": 1}
DEVICE = re.compile(r"0|[1-9]\d*|(GPU|MIG)-[\w/-]+")  # a device in CUDA_VISIBLE_DEVICES, with one spelling each
PADDED = ("pad_to_multiple_of", "padding_value", "dataset_num_proc")  # TRL's options that packed rows do not need
RATES = ("memory_gb", "tflops", "utilisation")
NEVER_NEGATIVE = ("beta", "weight_decay", "max_grad_norm", "adam_epsilon")
OUTER = {"lm_head", "embed_tokens", "score"}  # adapters may target these besides the layers' matrices
NO_HEAD_ADAPTER = {"sft", "dpo", "kto", "rloo"}  # whose trainers refuse an adapter of the LM head


def refuse_useless(config: Config) -> None:
    """Reject values of the right type that would fail only hours later, when they are used.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    for name, stages in config.pipelines.items():
        if not stages or not set(stages) <= set(STAGES):
            raise UserError(f"pipelines.{name}={stages}: give a list of one or more of {', '.join(STAGES)}")
        refuse_order(name, stages, config.options["rloo"]["reward_model"])
        if stages[-1] == "reward" and config.evaluate:
            raise UserError(f"pipelines.{name}={stages} ends in a reward model, which cannot respond: evaluate=false")
    if not config.pipelines:
        raise UserError(
            "pipelines is empty: choose pipeline=sft, dpo, orpo, simpo, cpo, kto, rlhf, compare, design, methods or all"
        )
    if config.batch_size < 2 and "kto" in config.stages:
        raise UserError("batch_size=1: KTO's reference point needs the responses of another pair; use batch_size=2")
    if config.compare_with is not None and config.compare_with not in config.pipelines:
        raise UserError(f"compare_with={config.compare_with}: use one of the pipelines, {', '.join(config.pipelines)}")
    if config.eval_prompts < 2:
        raise UserError(f"eval_prompts must be at least 2, or it has no interval (got {config.eval_prompts})")
    if config.eval_samples < 1:
        raise UserError(f"eval_samples must be at least 1 (got {config.eval_samples})")
    refuse_dataset(config)
    for stage in sorted(trained_stages(config)):
        refuse_stage(stage, config.options[stage])
    for name, stages in config.pipelines.items():
        refuse_unknown(name, stages, config)
        for stage in stages:
            refuse_stage(stage, config.of(name).options[stage])
            refuse_early(stage, config.of(name))
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed must be between 0 and 2**32 - 1 (got {config.seed})")
    for name in RATES:
        value = getattr(config.hardware, name)
        if value is not None and not value > 0:
            raise UserError(f"hardware.{name} must be above 0 (got {value})")
    if config.tuning != "full":
        refuse_adapters(config)
    if config.stale not in STALE:
        raise UserError(f"stale={config.stale}: use {', '.join(STALE[:-1])} or {STALE[-1]}")
    refuse_launcher(config.launcher)
    refuse_incompatible(config)


def refuse_dataset(config: Config) -> None:
    """Reject files that hold no pairs, and sizes that nothing could be trained or evaluated with.

    Raises:
        UserError: the message names the file or the option, and what is valid.
    """
    dataset, context = config.dataset, config.model.context_length
    check_source(dataset)
    for name, least in LEAST.items():
        value = getattr(dataset, name)
        if value is not None and value < least:
            raise UserError(f"dataset.{name} must be at least {least} (got {value})")
    if context and dataset.max_length > context:
        raise UserError(
            f"dataset.max_length={dataset.max_length}: {config.model.name} reads at most {context} tokens; use "
            f"dataset.max_length={context}"
        )
    if not 0 < dataset.test_fraction < 1:
        raise UserError(f"dataset.test_fraction must be between 0 and 1 (got {dataset.test_fraction})")


def refuse_unknown(name: str, stages: list[str], config: Config) -> None:
    """Reject what is no option of a pipeline's stages.

    Raises:
        UserError: the message names the option.
    """
    for option in config.tuned.get(name, {}):
        stage, _, rest = option.partition(".")
        if stage not in stages or rest not in config.options[stage]:
            raise UserError(f"tuned.{name}: {option} is not an option of its stages, {', '.join(stages)}")


def refuse_stage(stage: str, options: dict[str, Any]) -> None:
    """Reject a stage's options that leave nothing to train, or that no engine takes.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    refuse_untrusted(stage, options)
    if options["max_steps"] == 0 or (options["max_steps"] < 0 and options["num_train_epochs"] <= 0):
        raise UserError(f"{stage}.max_steps and {stage}.num_train_epochs leave nothing to train: set one above 0")
    if not 0 < options["learning_rate"] < float("inf"):
        raise UserError(f"{stage}.learning_rate must be above 0 and finite (got {options['learning_rate']})")
    for name, value in options.items():
        if isinstance(value, float) and (math.isnan(value) or (name in NEVER_NEGATIVE and value < 0)):
            raise UserError(f"{stage}.{name} must be a number{', 0 or more' * (name in NEVER_NEGATIVE)} (got {value})")
    if options.get("engine", "packed") not in ENGINES:
        raise UserError(f"{stage}.engine={options['engine']}: use {' or '.join(ENGINES)}")
    refuse_unheeded(stage, options)


def refuse_early(stage: str, config: Config) -> None:
    """Reject scores of a reference model that is not on its devices before the training.

    Raises:
        UserError: they are asked for.
    """
    options = config.options[stage]
    if options.get("precompute_ref_log_probs") and late(options, config.model_options["use_peft"]):
        raise UserError(
            f"{stage}.precompute_ref_log_probs=true: with hardware.strategy={config.hardware.strategy} the reference "
            "model is on its devices only once the training begins; leave this option out"
        )


def refuse_unheeded(stage: str, options: dict[str, Any]) -> None:
    """Reject TRL's options of tokenization and padding, wherever they are set, where nothing would heed them.

    Raises:
        UserError: the message names the option, and what does the same here.
    """
    for option, (_, default) in trl_options()[stage].items():
        given = f"{stage}.{option}={options[option]} would do nothing"
        if options[option] == default or stage == "rloo":
            continue
        if option in TOKENIZED:
            raise UserError(f"{given}: pairs are tokenized before; set {TOKENIZED[option]} instead")
        if option in PADDED and options.get("engine") == "packed":
            raise UserError(f"{given}: packed rows are tokenized before and not padded; remove it")


def refuse_launcher(launcher: Launcher) -> None:
    """Reject a launcher that runs no job, and a cluster that is missing or would stop jobs as soon as they start.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    if launcher.name not in LAUNCHERS:
        raise UserError(f"launcher.name={launcher.name}: use {' or '.join(LAUNCHERS)}")
    devices, at_once = launcher.devices, launcher.at_once
    if devices is not None and not (0 < len(devices) == len({*devices}) and all(map(DEVICE.fullmatch, devices))):
        raise UserError(f"launcher.devices=[{','.join(devices)}]: name each device once, such as [0,1]")
    if at_once is not None and at_once < 1:
        raise UserError(f"launcher.at_once must be at least 1 (got {at_once})")
    if launcher.name != "slurm":
        if launcher.dry_run:
            raise UserError(
                f"launcher.dry_run=true prints a Slurm job, which launcher={launcher.name} does not submit: "
                "use `make plan` or `--cfg job` instead"
            )
        return
    least = launcher.warning_seconds / 60
    if not launcher.minutes > least:
        raise UserError(
            f"launcher.minutes must exceed launcher.warning_seconds, {least:g} minutes (got {launcher.minutes})"
        )
    if shutil.which("sbatch") is None and not launcher.dry_run:
        raise UserError(
            "launcher=slurm: this machine has no sbatch: submit from a login node, or add launcher.dry_run=true"
        )


def refuse_adapters(config: Config) -> None:
    """Reject LoRA adapters without a rank, or that match no matrix of the model.

    Targets match as in PEFT: a single one is `all-linear` or a regular expression for a matrix's whole path; each of
    several is the end of a path.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    rank, given = config.model_options["lora_r"], config.model_options["lora_target_modules"]
    if rank < 1:
        raise UserError(f"model.lora_r must be at least 1 (got {rank}); to train without adapters use tuning=full")
    try:
        matrices = linears(shape_of(config.model))
    except UserError:
        return  # a family whose matrices are not known
    targets = [given] if isinstance(given, str) else list(given or [])
    if targets in ([], ["all-linear"]) or (len(targets) == 1 and not re.fullmatch(r"\w+", targets[0])):
        return
    refuse_outer(config, {target.split(".")[-1] for target in targets})
    known = {*matrices, *OUTER}
    if len(targets) == 1 or not any(target.split(".")[-1] in known for target in targets):
        raise UserError(
            f"model.lora_target_modules={given} matches no matrix of {config.model.name}: use all-linear, several of "
            f"[{','.join(matrices)}], or a regular expression for the whole path such as .*{next(iter(matrices))}"
        )


def refuse_outer(config: Config, targets: set[str]) -> None:
    """Reject adapters of embeddings or LM head that could not be merged, or that TRL refuses once it trains.

    Raises:
        UserError: the message names the target.
    """
    both = targets & {"lm_head", "embed_tokens"}
    if both and shape_of(config.model).tied:
        raise UserError(
            f"model.lora_target_modules={min(both)}: embeddings and LM head of {config.model.name} are one matrix, "
            "and a merged adapter would change both: leave it out"
        )
    if "lm_head" in targets and (refused := NO_HEAD_ADAPTER & {*trained_stages(config)}):
        raise UserError(f"model.lora_target_modules=lm_head: TRL does not train it under {min(refused)}: leave it out")


def refuse_order(name: str, stages: list[str], named: str | None) -> None:
    """Reject a pipeline whose RLOO has no reward model, or two.

    Raises:
        UserError: the message names the pipeline and what to change.
    """
    before = stages[: stages.index("rloo")] if "rloo" in stages else []
    if "rloo" in stages and named is None and "reward" not in before:
        raise UserError(
            f"pipelines.{name}={stages}: rloo has no reward model: put reward before it, or set "
            "rloo.reward_model=<directory or Hub id>"
        )
    if "reward" in stages and named is not None:
        raise UserError(
            f"rloo.reward_model={named}: pipelines.{name}={stages} would train a second one that nothing uses; use "
            f"pipelines.{name}=[{','.join(stage for stage in stages if stage != 'reward')}]"
        )
