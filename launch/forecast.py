"""`make plan`: what each stage will take of memory, tokens, FLOPs and hours, before anything is launched.

    python -m launch.forecast model=phi-3-mini dataset=ultrafeedback hardware=1x24gb tuning=lora

No weights, no GPU and no network: the model's shape comes from its profile or a local config.json, the tokens from
the prepared pairs where they are there and else from the data set's profile.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from launch.base import known_identity
from launch.errors import CONF, explain
from launch.inputs import chat_template, tuning
from launch.memory import Memory, MicroBatch, Setting, forecast_memory, trained
from launch.pairs import pairs_directory
from launch.schema import STAGES, register, resolve
from launch.shape import parameters, read_shape
from recipes.config import Shape, UserError, read_json

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
CONTEXT = 0.6e9  # bytes that CUDA and its libraries take of a GPU
console = Console(highlight=False, markup=False)


@dataclass(frozen=True)
class Tokens:
    """Pairs of the training split, and the mean tokens of their parts."""

    pairs: int
    prompt: float
    chosen: float
    rejected: float
    source: str  # of these figures


@dataclass(frozen=True)
class Forecast:
    """One stage."""

    stage: str
    memory: Memory
    updates: int
    tokens: float  # that the policy's forward passes compute
    flops: float
    hours: float | None  # None: the machine's rate is not known

    def peak(self, hardware: dict[str, Any]) -> float:
        """Return bytes on one device, with what its libraries take."""
        return self.memory.peak + (0.0 if hardware["use_cpu"] else CONTEXT)


def shape_of(model: dict[str, Any]) -> Shape:
    """Return the shape of a configuration's model: of its local directory, else of its profile.

    Raises:
        UserError: neither has one.
    """
    directory = Path(model["model_name_or_path"]).expanduser()
    if (directory / "config.json").is_file():
        return read_shape(directory)
    if model["shape"] is None:
        raise UserError(f"model={model['name']} has no shape in its profile: add one, or give a local directory")
    return Shape(**model["shape"])


def prepared_manifest(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of this configuration's pairs, if they were prepared on this machine.

    Raises:
        UserError: what they would be made of is missing.
    """
    identity = known_identity(config["model"])
    if identity is None:
        return None
    model = {**config["model"], "chat_template": chat_template(config["model"]["chat_template"])}
    path = pairs_directory({**config, "model": model}, identity) / "manifest.json"
    return read_json(path) if path.exists() else None


def tokens_of(config: dict[str, Any]) -> Tokens:
    """Return the training pairs' number and mean lengths: of the prepared pairs, else the profile's estimate.

    Raises:
        UserError: there is neither.
    """
    manifest = prepared_manifest(config)
    if manifest:
        count = manifest["pairs"]["train"]
        means = {name: manifest["tokens"]["train"][f"{name}_ids"] / count for name in ("prompt", "chosen", "rejected")}
        return Tokens(count, **means, source="counted")
    dataset = config["dataset"]
    if not dataset["estimate"]["rows"]:
        raise UserError(
            f"dataset={dataset['name']}: its pairs are not prepared yet, and its profile has no estimate: add "
            "dataset.estimate={rows:1000,prompt:100,chosen:200,rejected:200} (mean tokens)"
        )
    estimate = dict(dataset["estimate"])
    rows = min(estimate.pop("rows"), dataset["train_rows"] or math.inf)
    return Tokens(int(rows), **estimate, source="estimate")


def forecast(config: dict[str, Any], stage: str, shape: Shape, tokens: Tokens) -> Forecast:
    """Return what one stage takes."""
    options, hardware = config[stage], config["hardware"]
    processes, batch = hardware["processes"], hardware["per_device_batch"]
    epochs = options["num_train_epochs"]
    updates = (
        options["max_steps"] if options["max_steps"] > 0 else math.ceil(tokens.pairs / config["batch_size"] * epochs)
    )
    passes = updates * config["batch_size"]
    setting = setting_of(config, stage)
    computed = passes * mean_tokens(config, stage, tokens)
    weights = parameters(shape)
    reference = 2 * weights if stage == "dpo" else 0
    flops = computed * (4 * weights + 2 * trained(shape, setting) + reference)
    rate = hardware["tflops"] and hardware["tflops"] * 1e12 * hardware["utilisation"] * processes
    memory = forecast_memory(shape, setting, largest(config, stage, tokens, batch))
    return Forecast(stage, memory, updates, computed, flops, flops / rate / 3600 if rate else None)


def setting_of(config: dict[str, Any], stage: str) -> Setting:
    """Return how a stage trains, as far as memory depends on it."""
    model, hardware, options = config["model"], config["hardware"], config[stage]
    targets = model["lora_target_modules"] or ()
    head = "fused" if stage != "orpo" else ("packed" if options["engine"] == "packed" else "stock")
    return Setting(
        tuning=tuning(model),
        head=head,
        weight_bytes=BYTES.get(model["dtype"], 4),
        half=options["bf16"],
        checkpointing=options["activation_checkpointing"],
        rank=model["lora_r"],
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        shards=hardware["processes"] if hardware["fsdp"] else 1,
        reference=stage == "dpo" and not model["use_peft"] and not options["precompute_ref_log_probs"],
        accumulates=config["batch_size"] > hardware["per_device_batch"] * hardware["processes"],
    )


def mean_tokens(config: dict[str, Any], stage: str, tokens: Tokens) -> float:
    """Return the tokens that a forward pass computes for a pair, without padding."""
    if stage == "sft":
        return tokens.prompt + tokens.chosen
    once = stage == "orpo" and config["orpo"]["engine"] == "packed"
    return (1 if once else 2) * tokens.prompt + tokens.chosen + tokens.rejected


def largest(config: dict[str, Any], stage: str, tokens: Tokens, batch: int) -> MicroBatch:
    """Return the largest micro-batch: one dialogue has the most tokens allowed, and padding makes all as long.

    Packed, the others are mean ones, since pairs are dealt out evenly.
    """
    longest = config["dataset"]["max_length"]
    if stage == "sft":
        return MicroBatch(batch * longest, batch * longest)
    if stage == "dpo":
        answers = tokens.chosen + tokens.rejected
        return MicroBatch(2 * batch * longest, round(2 * longest + (batch - 1) * answers))
    if config["orpo"]["engine"] == "stock":
        return MicroBatch(2 * batch * longest, 2 * batch * longest)
    pair = tokens.prompt + 2 * (longest - tokens.prompt)
    count = round(max(pair, longest) + (batch - 1) * mean_tokens(config, stage, tokens))
    return MicroBatch(count, count, round(longest + (batch - 1) * (tokens.prompt + tokens.rejected)))


def forecast_all(config: dict[str, Any], shape: Shape, tokens: Tokens) -> dict[str, list[Forecast]]:
    """Return the stages of every pipeline."""
    return {
        name: [forecast(config, stage, shape, tokens) for stage in stages]
        for name, stages in config["pipelines"].items()
    }


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
        peak = worst(other, shape, tokens).peak(other["hardware"])
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
    peak, hardware = found.peak(config["hardware"]), config["hardware"]
    if not fits(config, 0.8 * peak):
        raise UserError(
            f"{found.stage} with tuning={tuning(config['model'])} of {parameters(shape) / 1e9:.1f}B parameters needs "
            f"about {peak / 1e9:.0f} GB on each device, and hardware={hardware['name']} has {hardware['memory_gb']:g}: "
            f"use {nearest(config, shape, tokens)}"
        )


def composed(words: list[str]) -> dict[str, Any]:
    """Compose the configuration of these options."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolve(compose("config", words))


def table(config: dict[str, Any], pipelines: dict[str, list[Forecast]]) -> Table:
    """Return the figures of all stages."""
    columns = ("weights", "gradients", "optimiser", "reference", "activations", "head")
    shown = Table("pipeline", "stage", *columns, "peak GB", "fits", "updates", "tokens", "FLOPs", "hours")
    for name, stages in pipelines.items():
        for stage in stages:
            parts = asdict(stage.memory)
            parts["weights"] += parts["adapters"]
            peak = stage.peak(config["hardware"])
            room = config["hardware"]["memory_gb"]
            verdict = "?" if room is None else ("yes" if fits(config, peak) else "no")
            figures = [f"{parts[column] / 1e9:.2f}" for column in columns]
            cost = [f"{stage.updates:,}", f"{stage.tokens:.3g}", f"{stage.flops:.2g}"]
            hours = "?" if stage.hours is None else f"{stage.hours:.2g}"
            shown.add_row(name, stage.stage, *figures, f"{peak / 1e9:.2f}", verdict, *cost, hours)
    return shown


def say(config: dict[str, Any]) -> None:
    """Print the forecast."""
    hardware, shape, tokens = config["hardware"], shape_of(config["model"]), tokens_of(config)
    console.print(
        f"{config['model']['name']} ({parameters(shape) / 1e9:.3g}B), tuning={tuning(config['model'])}; "
        f"{tokens.pairs:,} pairs of {config['dataset']['name']} ({tokens.source}; means: {tokens.prompt:.0f} tokens of "
        f"prompt, {tokens.chosen:.0f} and {tokens.rejected:.0f} of answers); hardware={hardware['name']}: "
        f"{hardware['processes']} x {hardware['memory_gb'] or '?'} GB, {hardware['per_device_batch']} pairs at once",
        soft_wrap=True,
    )
    console.print(table(config, forecast_all(config, shape, tokens)))
    console.print(
        "An estimate. Memory in GB of one device with its largest micro-batch; tokens without padding; hours at "
        f"{hardware['utilisation']:.0%} of {hardware['tflops'] or '?'} TFLOPS a device.",
        soft_wrap=True,
    )
    if not fits(config, worst(config, shape, tokens).peak(hardware)):
        console.print(f"It does not fit. The nearest that does: {nearest(config, shape, tokens)}", soft_wrap=True)


def main(words: list[str]) -> int:
    """Print the forecast; return the exit status: 0, 2 wrong input."""
    register()
    try:
        say(composed(words))
    except (HydraException, OmegaConfBaseException, UserError) as error:
        console.print(f"error: {explain(error)}", style="red", soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
