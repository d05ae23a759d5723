"""Whether a training fits the devices' memory, and the nearest setting that does."""

from collections.abc import Iterator
from dataclasses import replace

import yaml

from launch.config.errors import CONF
from launch.config.machine import memory_gb
from launch.config.schema import Config
from launch.config.shape import parameters, shape_of
from launch.forecast.cost import Forecast, forecast_all
from launch.forecast.tokens import Tokens, estimated
from recipes.config import UserError
from recipes.profiles import Shape


def worst(config: Config, shape: Shape, tokens: Tokens) -> Forecast:
    """Return the stage with the largest peak."""
    stages = [stage for stages in forecast_all(config, shape, tokens).values() for stage in stages]
    return max(stages, key=lambda stage: stage.memory.peak)


def room(config: Config) -> float | None:
    """Return the memory of a device in GB; on CPUs of this machine a process's share of its memory; None if unknown."""
    hardware = config.hardware
    here = hardware.use_cpu and hardware.nodes == 1 and config.launcher.name != "slurm"
    return memory_gb() / hardware.processes if here and hardware.memory_gb is None else hardware.memory_gb


def fits(config: Config, peak: float) -> bool:
    """Whether the peak is within the memory of the machine's devices; True if that is unknown."""
    most = room(config)
    return most is None or peak <= most * 1e9


def alternatives(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield nearby settings, nearest first, as words and configuration.

    A smaller per-device batch and activation checkpointing change no result; another tuning does; another machine
    costs.
    """
    hardware, tuning = config.hardware, config.tuning
    batch = hardware.per_device_batch
    halves = [batch >> power for power in range(batch.bit_length())]
    less = {"hardware.activation_checkpointing=true": {"activation_checkpointing": True}}
    checkpointing = {"": {}} if hardware.activation_checkpointing else {"": {}, **less}
    frozen = {"use_peft": True, "dtype": "bfloat16", "load_in_4bit": False}
    kinds = {"full": {}, "lora": frozen, "qlora": {**frozen, "load_in_4bit": True}}
    for kind in list(kinds)[list(kinds).index(tuning) :]:
        changed = {} if kind == tuning else kinds[kind]
        for word, option in checkpointing.items():
            for half in halves:
                words = [f"tuning={kind}" if changed else "", word]
                words += [f"hardware.per_device_batch={half}" if half < batch else ""]
                other = replace(
                    config,
                    model_options=config.model_options | changed,
                    options={stage: options | option for stage, options in config.options.items()},
                    hardware=replace(hardware, per_device_batch=half, **option),
                )
                yield " ".join(filter(None, words)), other
    if not hardware.use_cpu:
        node = yaml.safe_load((CONF / "hardware" / "8x80gb.yaml").read_text())
        yield "hardware=8x80gb", replace(config, hardware=replace(hardware, **node))


def nearest(config: Config, shape: Shape, tokens: Tokens) -> str:
    """Return what to use instead, with its peak: the first alternative that fits."""
    for words, other in alternatives(config):
        peak = worst(other, shape, tokens).peak
        if fits(other, peak):
            return f"{words} ({peak / 1e9:.1f} GB)"
    return "a smaller model or a larger machine"


def check_memory(config: Config) -> None:
    """Reject what cannot fit the device's memory, allowing the forecast an error of a fifth.

    Raises:
        UserError: the message says what would fit.
    """
    try:
        shape = shape_of(config.model)
    except UserError:
        return  # an unsupported model family
    estimate = config.dataset.estimate
    tokens = estimated(estimate, estimate.rows)  # without a forecast of tokens: a batch of one longest pair
    found = worst(config, shape, tokens)
    peak, hardware = found.peak, config.hardware
    if not fits(config, 0.8 * peak):
        raise UserError(
            f"{found.stage} with tuning={config.tuning} of {parameters(shape) / 1e9:.1f}B parameters needs "
            f"about {peak / 1e9:.0f} GB on each device, and hardware={hardware.name} has {room(config):.3g}: "
            f"use {nearest(config, shape, tokens)}"
        )
