"""Whole pipelines on the same pairs through the launcher: ORPO against SFT -> DPO, in time, memory and FLOPs."""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from dev.bench.shapes import SHAPES
from dev.bench.workload import build_model, load_tokenizer
from launch.stages.command import module
from pocket.base import build_tokenizer
from recipes.config import UserError, read_json

PAIRS = 64
STAGE_NAMES = ("sft", "dpo", "orpo")
COSTS = ("device_seconds", "flops", "computed_tokens", "peak_memory_bytes", "pairs")
STAGES = {"sft -> dpo": ("sft", "dpo"), "orpo": ("orpo",)}


def base_model(tokenizer: str | None, model: str, directory: Path) -> Path:
    """Save a random model with the tokenizer, or with the embedded world's.

    Raises:
        UserError: the tokenizer cannot be loaded, or has ids that the model lacks.
    """
    disable_progress_bar()
    loaded = load_tokenizer(tokenizer) if tokenizer else build_tokenizer()
    if len(loaded) > SHAPES[model].vocabulary:
        raise UserError(f"the tokenizer has ids beyond the {SHAPES[model].vocabulary} of {model}: use --models 21m")
    build_model(model, torch.float32, device="cpu").save_pretrained(directory)  # the launcher needs the whole GPU
    loaded.save_pretrained(directory)
    return directory


def command(file: str | None, base: Path, runs: Path, engine: str, pairs: int = PAIRS) -> list[str]:
    """Return the launcher's command line: one epoch of the first pairs, 8 per optimizer step, without an evaluation."""
    words = [f"runs={runs}", "pipeline=compare", "evaluate=false", "batch_size=8", "hardware.per_device_batch=8"]
    words += [f"dataset.train_rows={pairs}", "hardware.processes=1", "hardware.strategy=ddp"]
    options = ("num_train_epochs=1", f"engine={engine}", "save_strategy=no")  # saving would measure the disk
    words += [f"{stage}.{option}" for stage in STAGE_NAMES for option in options]
    if file:
        words += ["model=phi-3-mini", "dataset=file", f"dataset.path={file}", "dataset.max_length=1024"]
    else:
        words += ["model=pocket"]
    return [*module("launch"), "--multirun", *words, f"model.model_name_or_path={base}"]


def measure_pipelines(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Return each pipeline's cost under each engine, summed over its stages (memory: the largest), and each stage's.

    Raises:
        UserError: the launcher stopped.
    """
    model = (given.models or ["21m"])[0]
    results: dict[str, Any] = {"model": model, "data": "pairs" if given.pairs else "pocket"}
    with tempfile.TemporaryDirectory() as directory:
        base = base_model(given.tokenizer if given.pairs else None, model, Path(directory, "base"))
        for engine in ("stock", "packed"):
            runs = Path(directory, engine)
            records = train(command(given.pairs, base, runs, engine), runs)
            results[engine] = {name: cost(records, stages) for name, stages in STAGES.items()}
            for name, found in results[engine].items():
                console.print(
                    f"{name}, {engine}: {found['device_seconds']:.1f} device-seconds, {found['flops']:.3g} FLOPs, "
                    f"{found['peak_memory_bytes'] / 1e9:.2f} GB",
                    soft_wrap=True,
                )
    return results


def train(words: list[str], runs: Path) -> dict[str, dict[str, Any]]:
    """Train both pipelines with a command line; return each stage's record.

    Raises:
        UserError: the launcher stopped.
    """
    answer = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if answer.returncode:
        raise UserError(f"the pipelines did not train: {(answer.stdout + answer.stderr).strip()[-300:]}")
    paths = [path for path in runs.glob("[!_]*/*/*/record.json") if not path.parent.name.startswith("base-")]
    return {path.parent.name.split("-")[0]: read_json(path) for path in paths}


def cost(records: dict[str, dict[str, Any]], stages: tuple[str, ...]) -> dict[str, Any]:
    """Return the cost of a pipeline's stages together, and of each."""
    costs = {stage: {name: records[stage][name] for name in COSTS} for stage in stages}
    total = {name: sum(of[name] for of in costs.values()) for name in COSTS[:3]}
    return {**total, "peak_memory_bytes": max(of["peak_memory_bytes"] for of in costs.values()), "stages": costs}
