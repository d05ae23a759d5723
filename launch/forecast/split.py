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
from launch.stages.digest import SPLIT, splits_alike
from recipes.config import UserError
from recipes.profiles import Shape

FREE = 0.1  # of a device's memory: the forecast errs, and allocators leave gaps
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
    try:
        shape, most = shape_of(config.model), room(config)
    except UserError:  # an unsupported model family
        shape, most = None, None
    chosen = {}
    for stage in trained_stages(config):
        options = least = list(ways(config, stage))[-1]
        if shape and most:
            tokens, limit = lengths(config, stage), (1 - FREE) * most * 1e9
            fitting = (way for way in ways(config, stage) if peak(config, stage, way, shape, tokens) <= limit)
            options = next(fitting, least)
        chosen[stage] = options
    return replace(config, options=config.options | chosen)


def left_open(config: Config) -> Config:
    """Return a configuration that leaves micro-batches and activation checkpointing to the forecast."""
    options = {stage: options | {"activation_checkpointing": None} for stage, options in config.options.items()}
    return replace(config, options=options, hardware=replace(config.hardware, **LEFT_OPEN))


def ways(config: Config, stage: str) -> Iterator[dict[str, Any]]:
    """Yield a stage's options with each split and checkpointing that its setting leaves open, most memory first."""
    options, hardware = config.options[stage], config.hardware
    share = accumulate(config.batch_size, 1, hardware.processes)
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    given, answers = options["activation_checkpointing"], options["num_generations"] if stage == "rloo" else 1
    for checkpointing in [False, True] if given is None else [given]:
        for size in sizes if hardware.per_device_batch is None else [hardware.per_device_batch]:
            split = dict(zip(SPLIT, (answers * size, share // size), strict=True))
            yield options | split | {"activation_checkpointing": checkpointing}


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
