"""Forecast each stage's memory, tokens, FLOPs and hours from the configuration alone.

Needs no weights, GPU or network: the model's shape comes from its profile or a local config.json, the tokens from
`launch.forecast.tokens`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from launch.config.schema import Config
from launch.config.shape import body_parameters, lm_head_parameters, query_width
from launch.forecast.memory import Memory, MicroBatch, Setting, forecast_memory, trained
from launch.forecast.tokens import Tokens, of_judge
from recipes.config import scores_before
from recipes.methods import METHODS
from recipes.profiles import JUDGE, Shape
from recipes.training.flops import Matrices, Reading, forward, training

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
LIBRARIES = 0.6e9  # bytes that CUDA and its libraries take of a device, or Python's libraries of a CPU's memory


@dataclass(frozen=True)
class Work:
    """What a stage's training reads, as its record will count it; a partial epoch counts with mean lengths."""

    updates: int
    pairs: int  # over all epochs; prompts for RLOO
    tokens: float  # in whole dialogues
    computed: float  # through the policy: a shared prompt once, no padding


@dataclass(frozen=True)
class Forecast:
    """The forecast of one stage."""

    stage: str
    memory: Memory
    updates: int
    tokens: float  # computed by the policy's forward passes
    flops: float
    hours: float | None  # with what checkpointing computes again; None: the machine's rate is unknown

    @property
    def peak(self) -> float:
        """Bytes on one device, libraries included."""
        return self.memory.peak + LIBRARIES


def forecast(config: Config, stage: str, shape: Shape, tokens: Tokens) -> Forecast:
    """Return what one stage takes."""
    tokens = tokens.of(stage)
    if not METHODS[stage].answers:  # a reward model has no LM head of its own
        shape = replace(shape, tied=True)
    hardware, done = config.hardware, work(config, stage, tokens)
    found, again = flops(config, stage, shape, tokens), computed_again(config, stage, shape, tokens)
    known = hardware.tflops if hardware.bf16 or hardware.use_cpu else None  # a GPU's rate is that of bf16
    rate = known and known * 1e12 * hardware.utilisation * hardware.processes
    memory = forecast_memory(
        shape,
        setting_of(config, stage, tokens.pairs),
        largest(config, stage, tokens, micro_batch(stage, config.options[stage])),
    )
    return Forecast(stage, memory, done.updates, done.computed, found, (found + again) / rate / 3600 if rate else None)


def micro_batch(stage: str, options: dict[str, Any]) -> int:
    """Return the pairs of a stage's micro-batch; RLOO's option counts responses."""
    size = options["per_device_train_batch_size"]
    return size // options["num_generations"] if stage == "rloo" else size


def updates_per_epoch(stage: str, options: dict[str, Any], pairs: int, batch: int) -> int:
    """Return the optimizer steps of one epoch over so many pairs."""
    if stage == "rloo":  # TRL drops prompts that do not fill an optimizer step, and may make several with a response
        return max(1, pairs // batch) * options.get("num_iterations", 1)
    return max(1, math.ceil(pairs / batch))


def updates_of(stage: str, options: dict[str, Any], pairs: int, batch: int) -> int:
    """Return the optimizer steps of a stage's training on so many pairs."""
    if options["max_steps"] > 0:
        return options["max_steps"]
    return math.ceil(updates_per_epoch(stage, options, pairs, batch) * options["num_train_epochs"])


def work(config: Config, stage: str, tokens: Tokens) -> Work:
    """Return what one stage reads: the last optimizer step of an epoch takes the remaining pairs."""
    tokens, options, batch = tokens.of(stage), config.options[stage], config.batch_size
    iterations = options.get("num_iterations", 1)
    updates = updates_of(stage, options, tokens.pairs, batch)
    epochs, more = divmod(updates, updates_per_epoch(stage, options, tokens.pairs, batch))
    pairs = updates * batch if stage == "rloo" else epochs * tokens.pairs + more * batch
    shared = tokens.repeated if options.get("engine") == "packed" and METHODS[stage].pairs else 0.0  # by both responses
    mean, method = mean_tokens(config, stage, tokens), METHODS[stage]
    probes = method.probe_passes / (method.policy_passes or 1)
    return Work(updates, pairs, pairs * (mean + shared), pairs / iterations * mean * (1 + probes))


def flops(config: Config, stage: str, shape: Shape, tokens: Tokens) -> float:
    """Return the FLOPs of one stage, counted as its record will count them, without padding."""
    tokens = tokens.of(stage)
    done, model = work(config, stage, tokens), matrices(config, stage, shape, tokens)
    once, options = reading(config, stage, tokens), config.options[stage]
    if stage == "rloo":
        return rloo_flops(options, model, once.times(done.pairs / options["num_iterations"]))
    found = training(model, once.times(done.pairs))
    method = METHODS[stage]
    if method.reference_passes and method.policy_passes:
        read = tokens.pairs if precomputed(config, stage, tokens.pairs) else done.pairs
        found += forward(
            model, once.times(read * (method.reference_passes + method.probe_passes) / method.policy_passes)
        )
    return found


def computed_again(config: Config, stage: str, shape: Shape, tokens: Tokens) -> float:
    """Return the FLOPs of activation checkpointing: the policy's forward passes once more. No record counts them."""
    if not config.options[stage]["activation_checkpointing"]:
        return 0.0
    read = reading(config, stage, tokens).times(work(config, stage, tokens).pairs)
    return forward(matrices(config, stage, shape, tokens), read)


def matrices(config: Config, stage: str, shape: Shape, tokens: Tokens) -> Matrices:
    """Return the matrices of a stage's model, as `recipes.training.reading` finds them in the loaded one."""
    setting, body = setting_of(config, stage, tokens.pairs), body_parameters(shape)
    full, answers = setting.tuning == "full", METHODS[stage].answers
    head = lm_head_parameters(shape) if answers else shape.embedding or shape.hidden  # a reward model's one output
    updated = body if full else trained(shape, setting)
    return Matrices(
        body=body + (0 if full else updated),
        trained=updated,
        head=head,
        head_trained=head if full or not answers else 0,
        attention=shape.layers * query_width(shape),
    )


def reading(config: Config, stage: str, tokens: Tokens) -> Reading:
    """Return what a forward pass reads of a pair, without padding; of RLOO's prompt, with all its responses."""
    options, method, (prompt, chosen, rejected) = config.options[stage], METHODS[stage], tokens.seen
    read = mean_tokens(config, stage, tokens)
    if stage == "rloo":
        count = options["num_generations"]
        return Reading(read, count * tokens.chosen, count * chosen)
    packed = options.get("engine") == "packed"
    attended = chosen + ((rejected - packed * prompt) if method.pairs else 0)
    if not method.answers:
        return Reading(read, 2 if packed else read, attended)  # packed, the last token of both responses
    unscored = 1 if method.nll(options) == "full" else tokens.prompt  # nothing predicts a dialogue's first token
    return Reading(read, read - packed * unscored, attended)


def rloo_flops(options: dict[str, Any], model: Matrices, sampled: Reading) -> float:
    """Return the FLOPs of RLOO, with responses as long as the chosen ones; `sampled` is all that is read once.

    Each dialogue passes through the policy for sampling, for old log-probs and in each iteration, and through the
    frozen models, of which the reward model has no LM head.
    """
    frozen = forward(replace(model, head=0), sampled) + bool(options["beta"]) * forward(model, sampled)
    return frozen + 2 * forward(model, sampled) + options["num_iterations"] * training(model, sampled)


def frozen_copies(options: dict[str, Any], adapters: bool) -> int:
    """Return how many frozen models RLOO holds: the reward model, and the reference model of its KL penalty."""
    return 1 + bool(options["beta"] and not adapters)


def setting_of(config: Config, stage: str, pairs: int) -> Setting:
    """Return the parts of a stage's setting that memory depends on."""
    model, hardware, options = config.model_options, config.hardware, config.options[stage]
    targets = model["lora_target_modules"] or ()
    packed = options.get("engine") == "packed"
    reference = bool(METHODS[stage].reference_passes)
    frozen = reference and not model["use_peft"] and not precomputed(config, stage, pairs)
    return Setting(
        tuning=config.tuning,
        head="packed" if packed else ("fused" if METHODS[stage].fused else "stock"),
        weight_bytes=BYTES.get(model["dtype"], 4),
        half=options["bf16"],
        fp16=model["dtype"] == "float16",
        checkpointing=bool(options["activation_checkpointing"]),
        rank=model["lora_r"],
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        shards=hardware.processes if hardware.strategy != "ddp" else 1,
        buckets=hardware.strategy == "ddp" and hardware.processes > 1,
        whole=hardware.strategy in ("ddp", "zero2"),
        offload=hardware.offload,
        frozen=frozen_copies(options, model["use_peft"]) if stage == "rloo" else int(frozen),
        cpu=hardware.use_cpu,
        accumulates=options["gradient_accumulation_steps"] > 1,
    )


def precomputed(config: Config, stage: str, pairs: int) -> bool:
    """Whether the reference model scores all pairs before the training."""
    return scores_before(config.options[stage], config.model_options["use_peft"], config.batch_size, pairs)


def mean_tokens(config: Config, stage: str, tokens: Tokens) -> float:
    """Return the tokens that a forward pass computes for a pair, without padding."""
    if stage == "rloo":
        return config.options[stage]["num_generations"] * (tokens.prompt + tokens.chosen)
    if not METHODS[stage].pairs:
        return tokens.prompt + tokens.chosen
    again = 0 if config.options[stage].get("engine") == "packed" else tokens.repeated
    return tokens.prompt + again + tokens.chosen + tokens.rejected


def largest(config: Config, stage: str, tokens: Tokens, batch: int) -> MicroBatch:
    """Return the largest micro-batch: one dialogue has the most tokens allowed, and padding makes all others as long.

    In a packed one the others have mean lengths, since pairs are distributed evenly.
    """
    longest, options, method = config.dataset.max_length, config.options[stage], METHODS[stage]
    if stage == "rloo":
        rows = options["num_generations"] * batch
        return MicroBatch(rows * (longest + options["max_completion_length"]), rows * options["max_completion_length"])
    if options["engine"] == "stock":
        rows = 2 * batch if method.pairs else batch
        return MicroBatch(rows * longest, rows * longest if method.answers else 0)
    others = (batch - 1) * mean_tokens(config, stage, tokens)
    own = max(tokens.prompt + 2 * (longest - tokens.prompt), longest) if method.pairs else longest
    count = round(own + others)
    scored = count if method.nll(options) == "full" else round(count - batch * tokens.prompt)
    shared = round(longest + (batch - 1) * (tokens.prompt + tokens.rejected)) if method.pairs else 0
    return MicroBatch(count, scored if method.answers else 0, shared)  # a reward model has no logits


def forecast_all(config: Config, shape: Shape, tokens: Tokens) -> dict[str, list[Forecast]]:
    """Return the stages of every pipeline, and the judge's where one is trained."""
    found = {
        name: [forecast(config.of(name), stage, shape, tokens) for stage in stages]
        for name, stages in config.pipelines.items()
    }
    judge = forecast_judge(config, shape, tokens)
    return found | ({JUDGE: [judge]} if judge else {})


def forecast_judge(config: Config, shape: Shape, tokens: Tokens) -> Forecast | None:
    """Return the training of the judge; None where none is trained."""
    return forecast(config, "reward", shape, of_judge(config, tokens)) if config.dataset.judge_fraction else None
