"""The micro-batch and activation checkpointing of each stage, where the hardware profile leaves them to its forecast.

Each stage gets the largest micro-batch that fits without checkpointing; where not even one pair does, the largest that
fits with it. A stage's choice depends on nothing but its own setting, so that pipelines share it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from launch.config.judging import trained_stages
from launch.config.machine import memory_gb
from launch.config.schema import Config, accumulate
from launch.config.shape import shape_of
from launch.forecast.cost import Forecast, forecast, micro_batch
from launch.forecast.tokens import Tokens, estimated
from launch.stages.demonstrations import demonstrations_of
from recipes.config import SPLIT, UserError, splits_alike
from recipes.profiles import Shape

FREE = 0.1  # of a device's memory: the forecast errs, and allocators leave gaps
# Where the micro-batch changes the result: there the forecast was never compared with measurements, and a stage that
# runs out of memory cannot go on with a smaller one.
FREE_UNTRIED = 0.5
LEFT_OPEN: dict[str, None] = {"per_device_batch": None, "activation_checkpointing": None}


def room(config: Config) -> float | None:
    """Return the memory of a device in GB; on CPUs of this machine a process's share of its memory; None if unknown."""
    hardware = config.hardware
    here = hardware.use_cpu and hardware.nodes == 1 and config.launcher.name != "slurm"
    return memory_gb() / hardware.processes if here and hardware.memory_gb is None else hardware.memory_gb


def with_splits(config: Config) -> Config:
    """Return a configuration whose stages have a micro-batch and activation checkpointing; given values stand.

    Where memory or the model's shape are unknown, or nothing fits, they are those that take the least.

    Raises:
        UserError: `sft.dataset` names nothing, there is no such judge, or `batch_size` does not divide.
    """
    shape, most = known_shape(config), room(config)
    chosen = {}
    for stage in trained_stages(config):
        options = least = list(ways(config, stage))[-1]
        if shape and most:
            tokens, limit = lengths(config, stage), (1 - left_free(options)) * most * 1e9
            fitting = (way for way in ways(config, stage) if peak(config, stage, way, shape, tokens) <= limit)
            options = next(fitting, least)
        chosen[stage] = options
    return replace(config, options=config.options | chosen)


def known_shape(config: Config) -> Shape | None:
    """Return the model's shape; None for an unsupported family."""
    try:
        return shape_of(config.model)
    except UserError:
        return None


def left_free(options: dict[str, Any]) -> float:
    """Return the share of memory that a stage's choice leaves free."""
    return FREE if splits_alike(options) else FREE_UNTRIED


def unknown(config: Config) -> str | None:
    """Return one line on why micro-batches that are left open are the least there are; None where they are chosen."""
    shape, most = known_shape(config), room(config)
    if config.hardware.per_device_batch is not None or (shape and most):
        return None
    what, memory = ("memory of a device", "hardware.memory_gb= or ") if shape else (f"shape of {config.model.name}", "")
    how = ", with activation checkpointing" if config.hardware.activation_checkpointing is None else ""
    return f"{what} unknown, so micro-batches of one pair{how}: add {memory}hardware.per_device_batch="


def left_open(config: Config) -> Config:
    """Return a configuration that leaves micro-batches and activation checkpointing to the forecast."""
    return everywhere(config, LEFT_OPEN)


def everywhere(config: Config, values: dict[str, Any]) -> Config:
    """Return a configuration with one size of micro-batch and one activation checkpointing for all stages."""
    checkpointing = {"activation_checkpointing": values["activation_checkpointing"]}
    options = {stage: options | checkpointing for stage, options in config.options.items()}
    return replace(config, options=options, hardware=replace(config.hardware, **values))


def ways(config: Config, stage: str) -> Iterator[dict[str, Any]]:
    """Yield a stage's options with each split and checkpointing that its setting leaves open, most memory first."""
    options, hardware = config.options[stage], config.hardware
    share = accumulate(config.batch_size, None, hardware.processes)
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    if len(sizes) > 1 and not takes_one(config, stage):
        sizes.remove(1)
    given, answers = options["activation_checkpointing"], options["num_generations"] if stage == "rloo" else 1
    for checkpointing in [False, True] if given is None else [given]:
        for size in sizes if hardware.per_device_batch is None else [hardware.per_device_batch]:
            split = dict(zip(SPLIT, (answers * size, share // size), strict=True))
            yield options | split | {"activation_checkpointing": checkpointing}


def takes_one(config: Config, stage: str) -> bool:
    """Whether a stage can train with micro-batches of one pair; TRL's KTO compares each pair with another."""
    return (stage, config.options[stage].get("engine")) != ("kto", "stock")


def peak(config: Config, stage: str, options: dict[str, Any], shape: Shape, tokens: Tokens) -> float:
    """Return a stage's forecast bytes on one device with these options."""
    return forecast(replace(config, options=config.options | {stage: options}), stage, shape, tokens).peak


def lengths(config: Config, stage: str) -> Tokens:
    """Return the lengths that a choice is made by: the estimate of the data set's profile.

    Without one every dialogue is as long as allowed; also where the micro-batch changes the result, which must not
    change when the estimate does.
    """
    dataset = (demonstrations_of(config) if stage == "sft" else None) or config.dataset
    longest = dataset.max_length
    if dataset.estimate.rows and splits_alike(config.options[stage]):
        return estimated(dataset.estimate, min(dataset.estimate.rows, dataset.train_rows or dataset.estimate.rows))
    return Tokens(dataset.train_rows or dataset.estimate.rows, 0, longest, longest, "longest")


def described(config: Config, stages: dict[str, Forecast]) -> str:
    """Return one line on the micro-batches, activation checkpointing and memory of stages by name."""
    groups: dict[str, tuple[list[str], float]] = {}
    for name, found in stages.items():
        options = config.options[found.stage]
        checkpointing = "" if options["activation_checkpointing"] else "no "
        how = f"micro-batch {micro_batch(found.stage, options)}, {checkpointing}checkpointing"
        names, most = groups.get(how, ([], 0.0))
        groups[how] = ([*names, name], max(most, found.peak))
    memory = "?" if room(config) is None else f"{room(config):.3g}"
    said = [f"{', '.join(names)}: {how}, {most / 1e9:.3g} of {memory} GB" for how, (names, most) in groups.items()]
    return "; ".join(said)
