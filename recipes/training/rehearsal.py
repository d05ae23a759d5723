"""Build once, before anything trains, what a training builds from its options only when its turn comes."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from types import SimpleNamespace
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, Trainer
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.optimization import get_scheduler
from transformers.trainer_optimizer import is_optimizer_factory

from recipes.config import Stage, UserError
from recipes.engine.trl import rename_metrics
from recipes.methods import METHODS
from recipes.system.errors import nearest
from recipes.system.hub import NO_CODE, reason
from recipes.training.arguments import arguments
from recipes.training.model import peft_config

# The rehearsal must neither open a GPU, nor ask which one there is, nor wait for other processes.
ALONE = {"use_cpu": True, "fsdp": None, "fsdp_config": None, "deepspeed": None, "ddp_backend": None}
OF_A_GPU = {"tf32": None, "torch_compile": False, "torch_compile_backend": None, "torch_compile_mode": None}
STEPS = 100  # of the rehearsed schedule, where the options leave their number to the data
EVALUATED = {"loss", "runtime", "samples_per_second", "steps_per_second"}  # what a trainer gets of every evaluation
OWN = {"orpo": {"log_odds_ratio", "log_odds_chosen"}, "kto": {"kl"}}  # what packed methods measure besides
OF_A_MODEL = ("galore", "apollo", "lomo", "adalomo")  # optimizers that are built for the layers of a whole model


def rehearse(stage: Stage) -> None:
    """Build a stage's arguments, adapter, optimizer, schedule and trackers, and look at the reward model it queries.

    Raises:
        UserError: one of them cannot be built, or would do nothing; the message names the option.
    """
    stage.options = stage.options | ALONE | ({} if stage.options["use_cpu"] else OF_A_GPU)
    args = arguments(METHODS[stage.stage].config_class(), stage)
    peft_config(stage)
    check_metric(stage.stage, args)
    check_schedule(stage.stage, args)
    check_trackers(stage.stage, args)
    if stage.options.get("reward_model"):
        check_reward_model(str(stage.reward_model), stage.reward_revision, f"{stage.stage}.reward_model")


@contextmanager
def named(option: str) -> Iterator[None]:
    """Turn whatever a library raises into an error about an option.

    Raises:
        UserError: the library raised.
    """
    try:
        yield
    except Exception as error:  # each optimizer, schedule and tracker has its own kinds
        raise UserError(f"{option} cannot be used: {reason(error)}") from None


def check_metric(stage: str, args: Any) -> None:
    """Reject a metric that no evaluation returns: the training would end at its first one.

    Raises:
        UserError: there is no such metric.
    """
    name, known = args.metric_for_best_model, evaluated(stage, args)
    if name and name.removeprefix("eval_") not in known:
        raise UserError(
            f"{stage}.metric_for_best_model={name}: no evaluation measures it{nearest(name, known)}; "
            f"choose one of {', '.join(sorted(known))}"
        )


def evaluated(stage: str, args: Any) -> set[str]:
    """Return what a training's evaluations return to the trainer; stock TRL only logs the rest."""
    method = METHODS[stage]
    if getattr(args, "engine", "stock") == "stock":
        return EVALUATED
    own = OWN.get(stage, set()) | ({"nll_loss"} if method.nll(vars(args)) else set())
    if not method.pairs:
        return EVALUATED | own
    if not method.answers:
        return EVALUATED | {"accuracy", "margin", "min_reward", "mean_reward", "max_reward"}
    rewards = {f"rewards/{name}" for name in ("chosen", "rejected", "accuracies", "margins")}
    logs = dict.fromkeys(rewards | {"logps/chosen", "logps/rejected"}, 0.0)
    rename_metrics(logs, SimpleNamespace(_metrics={}), method)
    return EVALUATED | own | logs.keys()


def check_schedule(stage: str, args: Any) -> None:
    """Build optimizer and schedule for one weight, and ask the schedule for its first, middle and last factors.

    Raises:
        UserError: one of them cannot be built from its options.
    """
    steps = args.max_steps if args.max_steps > 0 else STEPS
    with named(f"{stage}.optim={args.optim}"):
        optimizer = build_optimizer(args)
    given = f" with lr_scheduler_kwargs={args.lr_scheduler_kwargs}" if args.lr_scheduler_kwargs else ""
    with named(f"{stage}.lr_scheduler_type={args.lr_scheduler_type.value}{given}"):
        schedule = get_scheduler(
            args.lr_scheduler_type, optimizer, args.get_warmup_steps(steps), steps, args.lr_scheduler_kwargs
        )
        for factor in schedule.lr_lambdas if isinstance(schedule, LambdaLR) else ():
            for step in (0, steps // 2, steps):
                factor(step)


def build_optimizer(args: Any) -> torch.optim.Optimizer:
    """Return the optimizer of the arguments, for one weight; a plain one for those that need the model itself."""
    weights = [torch.nn.Parameter(torch.zeros(1))]
    plain = torch.optim.SGD(weights, args.learning_rate)
    if args.optim.startswith(OF_A_MODEL):
        with suppress(ValueError):  # no layer to optimize; a missing package is another error
            Trainer.get_optimizer_cls_and_kwargs(args, PreTrainedModel(PreTrainedConfig()))
        return plain
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
    return plain if is_optimizer_factory(kind) else kind(weights, **options)


def check_trackers(stage: str, args: Any) -> None:
    """Make the callbacks that report to trackers; they connect only when a training begins.

    Raises:
        UserError: a tracker is unknown, or its package is not installed.
    """
    for name in args.report_to:
        with named(f"{stage}.report_to={name}"), redirect_stdout(StringIO()):
            for callback in get_reporting_integration_callbacks([name]):
                callback()


def check_reward_model(path: str, revision: str | None, option: str) -> None:
    """Compare a reward model's files with what a reward model needs, without reading its weights.

    Raises:
        UserError: it cannot be loaded, has not exactly one output, or no chat template.
    """
    with named(f"{option}={path}"):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, **NO_CODE)
        config = AutoConfig.from_pretrained(path, revision=revision, **NO_CODE)
    if config.num_labels != 1:
        raise UserError(f"{path} ({option}) is no reward model: name a sequence classifier with one output")
    if not tokenizer.chat_template:
        raise UserError(f"{option}={path} has no chat template, which a reward model needs: name one that has")
