"""Matched budgets: every pipeline of a job spends what one of them spends as configured.

Pairs, tokens or FLOPs are matched, computed from the prepared pairs. The pipeline that sets the budget trains as
configured. In the others only the last stage gets another `max_steps`, so that earlier stages are still shared. Seconds
are not matched: they depend on the machine's load, and only training could measure them.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from launch.config.schema import Config
from launch.config.shape import shape_of
from launch.forecast.cost import flops, work
from launch.forecast.tokens import Tokens
from recipes.config import UserError

KINDS = {"pairs": "pairs", "tokens": "tokens", "flops": "FLOPs"}
MOST = 10**8  # optimizer steps

Configs = dict[str, Config]  # of each pipeline
Training = tuple[str, ...]  # its stages from the base model on, behind the pipeline that has options of its own


def trainings(config: Config, configs: Configs) -> dict[Training, str]:
    """Return every training of the pipelines once, and one of the pipelines that it is of.

    A stage that starts from another model is another training, and so is one of a pipeline with options of its own.
    """
    found: dict[Training, str] = {}
    for name, stages in config.pipelines.items():
        for end in range(1, len(stages) + 1):
            own = any(configs[name].options[stage] != config.options[stage] for stage in stages[:end])
            found.setdefault((name if own else "", *stages[:end]), name)
    return found


@dataclass(frozen=True)
class Budget:
    """A budget that pipelines share."""

    held: str  # a key of KINDS
    of: str  # the pipeline that spends it as configured
    amount: float

    def describe(self) -> str:
        """Return the budget in words."""
        amount = f"{self.amount:.3g}" if self.held == "flops" else f"{self.amount:,.0f}"
        return f"the {amount} {KINDS[self.held]} of {self.of}"


def match(config: Config, tokens: Tokens) -> tuple[Configs, Budget | None]:
    """Return each pipeline's configuration, and the budget that they share, if any.

    Raises:
        UserError: a pipeline would spend it all before its last stage, or the model's shape is unknown.
    """
    if config.budget is None:
        return {name: config.of(name) for name in config.pipelines}, None
    of = setter(config)
    configs = {of: config.of(of)}
    budget = Budget(config.budget, of, sum(spends(configs[of], stage, tokens) for stage in config.pipelines[of]))
    for name, (*earlier, last) in others(config).items():
        own = config.of(name)

        def of_updates(updates: int, stage: str = last, own: Config = own) -> float:
            return spends(with_updates(own, stage, updates), stage, tokens)

        left = budget.amount - sum(spends(own, stage, tokens) for stage in earlier)
        updates = nearest(left, of_updates, name, budget)
        configs[name] = own if updates == work(own, last, tokens).updates else with_updates(own, last, updates)
    return configs, budget


def describe(config: Config, configs: Configs, budget: Budget) -> str:
    """Return one line that names the budget and the optimizer steps of the last stages that follow from it."""
    steps = {name: configs[name].options[stages[-1]]["max_steps"] for name, stages in others(config).items()}
    said = [f"{name} {found:,} steps" if found > 0 else f"{name} as configured" for name, found in steps.items()]
    return f"budget: {budget.describe()}; last stages: {', '.join(said)}"


def setter(config: Config) -> str:
    """Return the pipeline that sets the budget: the one named, else the first of those with the most stages."""
    pipelines = config.pipelines
    return config.budget_of or max(pipelines, key=lambda name: len(pipelines[name]))


def others(config: Config) -> dict[str, list[str]]:
    """Return the pipelines that are matched to another one's budget."""
    return {name: stages for name, stages in config.pipelines.items() if name != setter(config)}


def with_updates(config: Config, stage: str, updates: int) -> Config:
    """Return a configuration that trains a stage for this many optimizer steps; its learning-rate schedule follows."""
    return replace(config, options=config.options | {stage: config.options[stage] | {"max_steps": updates}})


def spends(config: Config, stage: str, tokens: Tokens) -> float:
    """Return what one stage spends, in the unit of the budget."""
    if config.budget == "flops":
        return flops(config, stage, shape_of(config.model), tokens)
    done = work(config, stage, tokens)
    return done.tokens if config.budget == "tokens" else done.pairs


def nearest(left: float, of_updates: Callable[[int], float], name: str, budget: Budget) -> int:
    """Return the number of optimizer steps that comes nearest to what is left for a pipeline's last stage.

    Raises:
        UserError: less than half an optimizer step is left.
    """
    if left < of_updates(1) / 2:
        raise UserError(
            f"budget={budget.held}: pipelines.{name} would use up {budget.describe()} before its last stage: "
            f"remove it, or make it set the budget with budget_of={name}"
        )
    above = bisect_left(range(MOST), left, lo=2, key=of_updates)
    return min(above - 1, above, key=lambda updates: abs(of_updates(updates) - left))


def refuse_budget(config: Config, overrides: list[str]) -> None:
    """Reject a budget that cannot be matched, and options that would do nothing under it.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    kind, pipelines = config.budget, config.pipelines
    if kind is None:
        if config.budget_of is not None:
            raise UserError(f"budget_of={config.budget_of} needs a budget: add budget=flops, or remove it")
        return
    if kind not in KINDS:
        raise UserError(f"budget={kind}: use {', '.join(KINDS)}, or null to match nothing")
    if setter(config) not in pipelines:
        raise UserError(f"budget_of={config.budget_of}: use one of this job's pipelines, {', '.join(pipelines)}")
    if len(pipelines) == 1:
        raise UserError(f"budget={kind} matches pipelines, and this job trains only {setter(config)}: add another")
    for name, (*earlier, last) in others(config).items():
        if last in earlier:
            raise UserError(f"budget={kind} sets the steps of the last stage, but pipelines.{name} has {last} twice")
    refuse_unknown_costs(config)
    configured = {*pipelines[setter(config)], *(stage for stages in pipelines.values() for stage in stages[:-1])}
    for word in overrides:
        stage, _, option = word.lstrip("+~").split("=")[0].partition(".")
        matched = any(stage == stages[-1] for stages in pipelines.values()) and stage not in configured
        if matched and option in ("max_steps", "num_train_epochs"):
            raise UserError(f"{word} would do nothing: budget={kind} sets the optimizer steps of {stage}; remove it")


def refuse_unknown_costs(config: Config) -> None:
    """Reject a budget whose costs are unknown before the training.

    Raises:
        UserError: RLOO samples, or an engine pads.
    """
    kind = config.budget
    for name, stages in config.pipelines.items():
        if "rloo" in stages and kind in ("tokens", "flops"):
            raise UserError(
                f"budget={kind}: how much rloo samples is unknown before it trains: remove {name}, or use budget=pairs"
            )
        for stage in stages:
            if kind == "flops" and config.options[stage].get("engine") != "packed":
                fix = f"use {stage}.engine=packed" if "engine" in config.options[stage] else f"remove {name}"
                raise UserError(
                    f"budget=flops: how much {stage} pads is unknown before it trains: {fix}, or use budget=pairs"
                )
