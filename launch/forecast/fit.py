"""Whether a training fits the devices' memory, and the nearest setting that does."""

from collections.abc import Iterator
from typing import Any

import yaml

from launch.config.compatibility import tuning
from launch.config.errors import CONF
from launch.config.shape import parameters, shape_of
from launch.config.trl_options import STAGES
from launch.forecast.cost import Forecast, Tokens, forecast_all
from recipes.config import UserError
from recipes.profiles import Shape


def worst(config: dict[str, Any], shape: Shape, tokens: Tokens) -> Forecast:
    """Return the stage with the largest peak."""
    stages = [stage for stages in forecast_all(config, shape, tokens).values() for stage in stages]
    return max(stages, key=lambda stage: stage.memory.peak)


def fits(config: dict[str, Any], peak: float) -> bool:
    """Whether the peak is within the memory of the machine's devices; True where that is not known."""
    room = config["hardware"]["memory_gb"]
    return room is None or peak <= room * 1e9


def alternatives(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield nearby settings, the nearest first, as words and configuration.

    Fewer pairs at once and activation checkpointing change no result, another tuning does, another machine costs.
    """
    hardware, model = config["hardware"], config["model"]
    batch = hardware["per_device_batch"]
    halves = [batch >> power for power in range(batch.bit_length())]
    less = {"hardware.activation_checkpointing=true": {"activation_checkpointing": True}}
    checkpointing = {"": {}} if hardware["activation_checkpointing"] else {"": {}, **less}
    frozen = {"use_peft": True, "dtype": "bfloat16", "load_in_4bit": False}
    kinds = {"full": {}, "lora": frozen, "qlora": {**frozen, "load_in_4bit": True}}
    for kind in list(kinds)[list(kinds).index(tuning(model)) :]:
        changed = {} if kind == tuning(model) else kinds[kind]
        for word, option in checkpointing.items():
            for half in halves:
                words = [f"tuning={kind}" if changed else "", word]
                words += [f"hardware.per_device_batch={half}" if half < batch else ""]
                stages = {stage: {**config[stage], **option} for stage in STAGES}
                machine = {**hardware, **option, "per_device_batch": half}
                yield (
                    " ".join(filter(None, words)),
                    {**config, **stages, "model": {**model, **changed}, "hardware": machine},
                )
    if not hardware["use_cpu"]:
        node = yaml.safe_load((CONF / "hardware" / "8x80gb.yaml").read_text())
        yield "hardware=8x80gb", {**config, "hardware": {**hardware, **node}}


def nearest(config: dict[str, Any], shape: Shape, tokens: Tokens) -> str:
    """Return what to use instead, with its peak: the first alternative that fits."""
    for words, other in alternatives(config):
        peak = worst(other, shape, tokens).peak
        if fits(other, peak):
            return f"{words} ({peak / 1e9:.1f} GB)"
    return "a smaller model or a larger machine"


def check_memory(config: dict[str, Any]) -> None:
    """Refuse what cannot fit the device's memory, a fifth of the forecast left to its error.

    Raises:
        UserError: with what would fit.
    """
    try:
        shape = shape_of(config["model"])
    except UserError:
        return  # a family whose sizes are not known
    estimate = dict(config["dataset"]["estimate"])
    tokens = Tokens(estimate.pop("rows"), **estimate, source="estimate")  # without one: the longest pair alone
    found = worst(config, shape, tokens)
    peak, hardware = found.peak, config["hardware"]
    if not fits(config, 0.8 * peak):
        raise UserError(
            f"{found.stage} with tuning={tuning(config['model'])} of {parameters(shape) / 1e9:.1f}B parameters needs "
            f"about {peak / 1e9:.0f} GB on each device, and hardware={hardware['name']} has {hardware['memory_gb']:g}: "
            f"use {nearest(config, shape, tokens)}"
        )
