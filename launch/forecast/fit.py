"""Whether a training fits the devices' memory, and the nearest setting that does."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from launch.config.compatibility import refuse_incompatible
from launch.config.judging import trained_stages
from launch.config.machine import profile
from launch.config.schema import Config
from launch.config.shape import parameters, shape_of
from launch.forecast.cost import Forecast, forecast_all
from launch.forecast.split import LEFT_OPEN, everywhere, left_open, room, takes_one, with_splits
from launch.forecast.tokens import Tokens, estimated
from recipes.config import UserError
from recipes.profiles import Shape

TUNINGS = ("full", "lora", "qlora")
LEAST: dict[str, Any] = {"per_device_batch": 1, "activation_checkpointing": True}


def worst(config: Config, shape: Shape, tokens: Tokens) -> Forecast:
    """Return the stage with the largest peak."""
    stages = [stage for stages in forecast_all(config, shape, tokens).values() for stage in stages]
    return max(stages, key=lambda stage: stage.memory.peak)


def fits(config: Config, peak: float) -> bool:
    """Whether the peak is within the memory of the machine's devices; True if that is unknown."""
    most = room(config)
    return most is None or peak <= most * 1e9


def alternatives(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield nearby settings, nearest first, as words and configuration.

    With the packed engine the micro-batch and activation checkpointing that the forecast chooses change no result;
    another tuning does; another machine costs. The forecast chooses by estimated lengths: where the data's are longer,
    one pair with checkpointing may fit all the same.
    """
    free = left_open(config)
    least = everywhere(config, LEAST)
    words = [] if config.hardware == free.hardware else [f"hardware.{name}=null" for name in LEFT_OPEN]
    own = [f"{stage}.activation_checkpointing" for stage in with_own_checkpointing(config)]
    words += [f"{name}=null" for name in own]
    given = ["hardware.per_device_batch=1", *(f"{name}=true" for name in ("hardware.activation_checkpointing", *own))]
    for kind in TUNINGS[TUNINGS.index(config.tuning) :]:
        word = [] if kind == config.tuning else [f"tuning={kind}"]
        if word or words:
            yield " ".join([*word, *words]), with_splits(tuned(free, kind))
        if all(takes_one(config, stage) for stage in trained_stages(config)):
            yield " ".join([*word, *given]), with_splits(tuned(least, kind))
    node = profile("8x80gb")
    if not config.hardware.use_cpu and config.batch_size % node.processes == 0:
        yield " ".join([f"hardware={node.name}", *words]), with_splits(replace(free, hardware=node))


def with_own_checkpointing(config: Config) -> list[str]:
    """Return the stages whose activation checkpointing was given for them alone, and is not what would be chosen."""
    chosen, of_all = with_splits(left_open(config)), config.hardware.activation_checkpointing
    name = "activation_checkpointing"
    return [
        stage
        for stage in trained_stages(config)
        if config.options[stage][name] not in (None, of_all, chosen.options[stage][name])
    ]


def tuned(config: Config, kind: str) -> Config:
    """Return a configuration of another tuning, as far as memory depends on it."""
    if kind == config.tuning:
        return config
    dtype = "float32" if kind == "full" else "bfloat16"
    changed = {"use_peft": kind != "full", "load_in_4bit": kind == "qlora", "dtype": dtype}
    return replace(config, model_options=config.model_options | changed)


def nearest(config: Config, shape: Shape, tokens: Tokens) -> str:
    """Return what to use instead, with its peak: the first alternative that fits."""
    for words, other in filter(allowed, alternatives(config)):
        peak = worst(other, shape, tokens).peak
        if fits(other, peak):
            return f"{words} ({peak / 1e9:.1f} GB)"
    return "a smaller model or a larger machine"


def allowed(alternative: tuple[str, Config]) -> bool:
    """Whether a launch would not reject an alternative for what it combines."""
    with suppress(UserError):
        refuse_incompatible(alternative[1])
        return True
    return False


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
