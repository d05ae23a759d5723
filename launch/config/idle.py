"""Reject options that a command line sets and nothing would read."""

from collections.abc import Callable
from typing import Any

from launch.config.judging import TRAINED, judge_of, trained_stages
from launch.config.schema import Config
from launch.config.trl_options import STAGES
from recipes.config import UserError

# Trainer options that belong to the experiment or the machine, and where they are set.
OWNED = {
    "per_device_train_batch_size": "batch_size and hardware.per_device_batch",
    "gradient_accumulation_steps": "batch_size and hardware.per_device_batch",
    "max_length": "dataset.max_length",
    "seed": "seed",
    "output_dir": "runs and the stage's digest",
    "fsdp": "hardware.strategy",
    "deepspeed": "hardware.strategy",
    "gradient_checkpointing": "hardware.activation_checkpointing",
}
# Options of TRL's own tokenization, and what does the same here: the pairs are tokenized before, once for all methods.
TOKENIZED = {
    "truncation_mode": "dataset.policies.overlong=truncate_prompt or truncate_answer",
    "max_prompt_length": "dataset.max_length",
    "max_completion_length": "dataset.max_length",
    "pad_token": "model.pad_token",
    "eos_token": "model.stop_tokens",
    "chat_template_path": "model.chat_template",
    "dataset_text_field": "the columns prompt, chosen and rejected",
    "dataset_kwargs": "dataset.policies",
}
Options = dict[str, Any]
FOLLOWING = ("reduce_lr_on_plateau", "greedy")  # schedules that follow the evaluations


def steered(options: Options) -> bool:
    """Whether evaluations decide a stage's weights: its best checkpoint is loaded, or its rate follows them."""
    return options["load_best_model_at_end"] or options["lr_scheduler_type"] in FOLLOWING


def chooses(options: Options) -> bool:
    """Whether a stage's training compares its evaluations."""
    return steered(options) or options["save_strategy"] == "best"


def warms_up(options: Options) -> bool:
    """Whether a stage's schedule begins with warm-up steps."""
    return options["lr_scheduler_type"] not in ("constant", *FOLLOWING)


# Trainer options, when they are read, and what makes them so.
READ: dict[str, tuple[Callable[[Options], bool], str]] = {
    "eval_steps": (lambda options: options["eval_strategy"] == "steps", "eval_strategy=steps"),
    "eval_delay": (lambda options: options["eval_strategy"] != "no", "eval_strategy=epoch or steps"),
    "save_steps": (lambda options: options["save_strategy"] == "steps", "save_strategy=steps"),
    "logging_steps": (lambda options: options["logging_strategy"] == "steps", "logging_strategy=steps"),
    "metric_for_best_model": (chooses, "load_best_model_at_end=true"),
    "greater_is_better": (chooses, "load_best_model_at_end=true"),
    "warmup_steps": (warms_up, "lr_scheduler_type=cosine"),
    "lr_scheduler_kwargs": (
        lambda options: not options["lr_scheduler_type"].startswith("constant"),
        "lr_scheduler_type=cosine",
    ),
}


def refuse_unused(config: Config, overrides: list[str]) -> None:
    """Reject an option of a command line that this job would not read.

    Raises:
        UserError: the message names the option, and what would make it read or does the same.
    """
    names = [word.lstrip("+~").partition("=")[0] for word in overrides]
    for word, name in zip(overrides, names, strict=True):
        part, *rest = name.split(".")
        option = rest[0] if rest else ""
        if part in STAGES and option:
            refuse_unread(config, word, part, option, names)
        elif option.startswith("lora_") and part == "model" and config.tuning == "full":
            raise UserError(f"{word} would do nothing: all weights are trained; add tuning=lora, or remove it")
        elif part == "launcher" and option:
            refuse_launchers(config, word, option)
        elif name == "compare_with" and (len(config.pipelines) < 2 or not config.evaluate):
            raise UserError(f"{word} would do nothing: nothing is compared; add evaluate=true and a second pipeline")
        elif name == "dataset.test_fraction" and (config.dataset.test_path or config.dataset.test_split):
            raise UserError(f"{word} would do nothing: {config.dataset.name} has a test split of its own; remove it")
        elif name == "dataset.judge_fraction" and judge_of(config) != TRAINED:
            raise UserError(f"{word} would do nothing: judge={judge_of(config)} is not trained on pairs; remove it")


def refuse_launchers(config: Config, word: str, option: str) -> None:
    """Reject an option that another launcher would read.

    Raises:
        UserError: as in `refuse_unused`.
    """
    here = config.launcher.name
    if here == "here":
        raise UserError(f"{word} would do nothing: jobs run here; add launcher=local or launcher=slurm, or remove it")
    reads = ("local",) if option == "devices" else ("local", "slurm") if option == "at_once" else ("slurm",)
    if here not in reads and option != "name":
        raise UserError(
            f"{word} would do nothing: launcher={here} does not read it, launcher={reads[0]} does; remove it"
        )


def refuse_unread(config: Config, word: str, stage: str, option: str, names: list[str]) -> None:
    """Reject an option of a stage that its training would not read, or that no pipeline trains.

    Raises:
        UserError: as in `refuse_unused`.
    """
    stages, options = trained_stages(config), config.options[stage]
    if option in OWNED:
        raise UserError(f"{word}: this option is derived for every method; set {OWNED[option]} instead")
    if stage not in stages:
        raise UserError(f"{word} would do nothing: this pipeline trains {', '.join(sorted(stages))}; remove it")
    if option in TOKENIZED and stage != "rloo":
        raise UserError(f"{word} would do nothing: pairs are tokenized before; set {TOKENIZED[option]} instead")
    read, by = READ.get(option, (lambda options: True, ""))
    if options[option] and not read(options):  # what is switched off need not be read
        raise UserError(f"{word} would do nothing without {stage}.{by}: add that, or remove it")
    if option == "num_train_epochs" and options["max_steps"] > 0 and f"{stage}.max_steps" in names:
        raise UserError(
            f"{word} would do nothing: {stage}.max_steps={options['max_steps']} ends the training; remove one"
        )
