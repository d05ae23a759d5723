"""`record.json`: what was trained, how, and at what cost. Tables are sums and joins over these files."""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from recipes.config import GGUF, Stage, read_json
from recipes.methods import METHODS
from recipes.system.versions import provenance, versions
from recipes.training.code import begun_by
from recipes.training.cost import Cost, finite_or_text
from recipes.training.flops import Reading, forward, training
from recipes.training.reading import matrices

COUNTS = ("pairs", "sources", "dropped", "truncated")  # of a manifest


def record(trainer: Trainer, stage: Stage, cost: Cost, memory: dict[str, int]) -> dict[str, Any]:
    """Return a finished stage's record; `memory` is as `recipes.training.memory` measures it.

    `seconds` cover the training loop and the reference model's pass before it, not imports and loading.
    """
    log = trainer.state.log_history
    manifest = read_json(stage.pairs / "manifest.json")
    shown = read_json(stage.demonstrations / "manifest.json") if stage.demonstrations else None
    policy, reference = forward_passes(trainer, stage)
    epochs = trainer.state.epoch or 0.0
    # With precomputed log-probs the reference model reads every pair once, not once per epoch.
    reference_epochs = 1.0 if getattr(trainer.args, "precompute_ref_log_probs", False) else epochs
    return {
        "stage": stage.stage,
        "digest": stage.digest,
        "start": stage.start,
        "start_revision": stage.start_revision,
        **of_gguf(stage),
        "seed": stage.seed,
        "batch_size": stage.batch_size,
        "updates": trainer.state.global_step,
        "epochs": epochs,
        "engine": stage.options.get("engine", "stock"),
        **({"reward_model": stage.reward_model} if stage.reward_model else {}),
        **{name: getattr(trainer.args, name) for name in ("nll_span", "nll_mean") if hasattr(trainer.args, name)},
        "device": device_name(trainer),
        "processes": stage.processes,
        "device_seconds": cost.seconds * stage.processes,
        **memory,
        **asdict(cost),
        "forward_passes_per_pair": policy * epochs + reference * reference_epochs,
        "flops": flops(trainer, cost, reference / policy * reference_epochs / max(epochs, 1e-9)),
        "first_loss": next((entry["loss"] for entry in log if "loss" in entry), None),
        "metrics": finite_or_text(next((entry for entry in reversed(log) if "loss" in entry), {})),
        "data_fingerprint": (shown or manifest)["fingerprint"],
        "data": {key: manifest[key] for key in COUNTS},
        **(of_demonstrations(shown, manifest) if shown else of_unpaired(stage, manifest)),
        "versions": versions(),
        "code": begun_by(stage.directory),
        **provenance(),
    }


def of_gguf(stage: Stage) -> dict[str, Any]:
    """Return which GGUF file a stage's initial checkpoint was made from, and from how many bits; nothing of others."""
    path = Path(stage.start) / GGUF
    return {"start_gguf": read_json(path)} if path.is_file() else {}


def of_demonstrations(shown: dict[str, Any], pairs: dict[str, Any]) -> dict[str, Any]:
    """Return what SFT trained on instead of the pairs, which it was still evaluated on."""
    return {
        "demonstrations": {key: shown[key] for key in (*COUNTS, "path", "revision")},
        "pairs_fingerprint": pairs["fingerprint"],
    }


def of_unpaired(stage: Stage, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return how many good and bad responses without a partner a stage trained on, if any."""
    found, sides = manifest.get("unpaired", {}).get("train"), METHODS[stage.stage].unpaired
    return {"unpaired": {side: found[side]["rows"] for side in sides}} if found and sides else {}


def forward_passes(trainer: Trainer, stage: Stage) -> tuple[int, int]:
    """Return how many responses pass forward per pair and epoch: to be learned from, and through frozen models.

    Savings from shared prompts show in the computed tokens, and so in the FLOPs. A prompt of RLOO counts as a pair.
    Each of its responses passes through the policy for sampling (token by token), for the old log-probs, and in each
    iteration; through the reward model once, and through the reference model once if there is a KL penalty. Where the
    policy reads without learning, as for KTO's reference point, it counts among the frozen ones. Of responses without
    a partner it is half as many.
    """
    method = METHODS[stage.stage]
    if method.policy_passes is not None:
        return method.policy_passes, method.reference_passes + method.probe_passes
    args: Any = trainer.args
    return args.num_generations * (2 + args.num_iterations), args.num_generations * (2 if args.beta else 1)


def flops(trainer: Trainer, cost: Cost, reference_share: float) -> float:
    """Return the floating-point operations of the training, as `recipes.training.flops` counts them.

    The reference model has only a forward pass, on `reference_share` of what the policy reads; RLOO counts what it
    samples and what its frozen models compute.
    """
    model = matrices(trainer.model)
    read = Reading(cost.computed_tokens - cost.inference_tokens, cost.scored_tokens, cost.attended)
    frozen = cost.inference_flops + cost.frozen_flops
    return float(training(model, read) + (frozen or forward(model, read.times(reference_share))))


def device_name(trainer: Trainer) -> str:
    """Return the GPU's name, or the CPU's architecture and threads."""
    if trainer.args.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
