"""Every recipe started as a user would, with a random model: trained, evaluated, compiled, killed and resumed."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from dev.bench.pipelines import base_model
from dev.gpu.job import Skip
from launch.stages.command import module
from recipes.config import read_json
from recipes.system.files import SEAL
from recipes.system.processes import die_with_parent
from recipes.training.compare import difference

# A few of the embedded world's pairs.
SMALL = ["model=pocket", "dataset.train_rows=64", "dataset.test_rows=16", "batch_size=16"]
SMALL += ["hardware.per_device_batch=8", "hardware.processes=1", "hardware.strategy=ddp"]
ADAPTERS = "model.lora_target_modules=all-linear"
COMPARED = ("sft", "dpo", "orpo")
# The runs: the stages of their pipelines, and their words.
COMMANDS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "full, evaluated": ((*COMPARED, "reward", "rloo"), ["pipeline=all", "evaluate=true"]),
    "LoRA": (COMPARED, ["pipeline=compare", "tuning=lora", ADAPTERS]),
    "QLoRA": (COMPARED, ["pipeline=compare", "tuning=qlora", ADAPTERS]),
    "torch.compile": (("orpo",), ["pipeline=orpo", "orpo.torch_compile=true"]),
}
# Long enough to be killed.
LONG = ["pipeline=orpo", "orpo.num_train_epochs=8", "orpo.save_steps=1"]


def once(stages: tuple[str, ...]) -> list[str]:
    """Return the words for one epoch of each stage, logged step by step."""
    return [f"{stage}.{option}=1" for stage in stages for option in ("num_train_epochs", "logging_steps")]


def command(work: Path, words: list[str], model: str) -> list[str]:
    """Return the launcher's command line for a random model of a shape; it evaluates only if `words` say so."""
    base = work.parent / "base"
    if not base.exists():
        base_model(None, model, base)
    evaluate = [] if "evaluate=true" in words else ["evaluate=false"]
    where = [f"runs={work}", f"model.model_name_or_path={base}"]
    return [*module("launch"), "--multirun", *where, *SMALL, *evaluate, *words]


def front_door(name: str, model: str) -> dict[str, Any]:
    """Run one command; return each stage's summary, and the table's size if there is one.

    Raises:
        Skip: bitsandbytes is not installed.
        RuntimeError: the command failed.
    """
    if name == "QLoRA" and importlib.util.find_spec("bitsandbytes") is None:
        raise Skip("bitsandbytes is not installed")
    with tempfile.TemporaryDirectory() as directory:
        runs = Path(directory, "runs")
        stages, words = COMMANDS[name]
        finish(command(runs, [*words, *once(stages)], model), runs)
        trained = {path.parent.name.split("-")[0]: summary(path.parent) for path in sorted(records(runs))}
        tables = [path.stat().st_size for path in runs.glob("_sessions/*/table.md")]
    return {"stages": trained, "table_bytes": sum(tables)}


def records(runs: Path) -> list[Path]:
    """Return the records of finished stages, without the base model's."""
    return [path for path in runs.glob("[!_]*/*/*/record.json") if not path.parent.name.startswith("base-")]


def summary(stage: Path) -> dict[str, Any]:
    """Return a finished stage's first and last loss and its costs.

    Raises:
        RuntimeError: it was trained on a CPU where PyTorch has a GPU.
    """
    logged = [json.loads(line) for line in (stage / "log_history.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in logged if "loss" in entry]
    record = read_json(stage / "record.json")
    if torch.cuda.is_available() and " CPU," in record["device"]:
        raise RuntimeError(f"trained on {record['device']}: the launcher found no GPU, see `nvidia-smi`")
    costs = {name: record[name] for name in ("device_seconds", "peak_memory_bytes", "pairs")}
    return {"first_loss": losses[0], "last_loss": losses[-1], **costs}


def finish(words: list[str], runs: Path) -> None:
    """Run a command to its end; print its output, and its stages' logs if it fails.

    Raises:
        RuntimeError: it failed; the message has its last line.
    """
    print("$", " ".join(words), flush=True)
    answer = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(answer.stdout, flush=True)
    if answer.returncode:
        for log in runs.glob("*/*/*/log.txt"):
            print(log, log.read_text(), sep="\n", flush=True)
        last = [line for line in answer.stdout.splitlines() if line.strip()][-1:]
        raise RuntimeError(f"exit status {answer.returncode}: {' '.join(last)}")


def killed_and_resumed(model: str) -> dict[str, Any]:
    """Kill an ORPO training after a checkpoint, run its command again, and compare with an undisturbed one.

    Returns:
        `resumed_from`, the optimizer step; `difference`, the largest of a weight; `bit_equal`. On a GPU, kernels that
        add in no fixed order (flash attention's backward pass) may make two trainings differ: `repeated` is the
        difference of two undisturbed ones.

    Raises:
        RuntimeError: a command failed, or ended before it could be killed.
    """
    with tempfile.TemporaryDirectory() as directory:
        whole, again, broken = (Path(directory, name) for name in ("whole", "again", "broken"))
        for runs in (whole, again):
            finish(command(runs, LONG, model), runs)
        step = kill_after_checkpoint(command(broken, LONG, model), broken)
        finish(command(broken, LONG, model), broken)
        check_resumed(broken, step)
        models = [next(runs.glob("*/*/orpo-*/model")) for runs in (whole, again, broken)]
        apart, same = difference(models[0], models[2])
        repeated, _ = difference(models[0], models[1])
    return {"resumed_from": step, "difference": apart, "bit_equal": same, "repeated": repeated}


def check_resumed(runs: Path, least: int) -> None:
    """Reject a stage that did not go on from a checkpoint of this optimizer step or a later one.

    Raises:
        RuntimeError: it began again.
    """
    logs = "".join(path.read_text() for path in runs.glob("*/*/orpo-*/log.txt"))
    steps = [int(step) for step in re.findall(r"^resuming from checkpoint-(\d+)$", logs, re.M)]
    if not steps or min(steps) < least:
        raise RuntimeError(f"killed after checkpoint {least}, it went on from {steps or 'none'}")


def kill_after_checkpoint(words: list[str], runs: Path) -> int:
    """Start a training, kill all its processes once a checkpoint is sealed, and return that optimizer step.

    Raises:
        RuntimeError: it ended first.
    """
    process = subprocess.Popen(words, start_new_session=True, preexec_fn=die_with_parent)
    while not (saved := list(runs.glob(f"*/*/orpo-*/checkpoint-*/{SEAL}"))):
        if process.poll() is not None:
            raise RuntimeError(f"the training ended with exit status {process.returncode} before a checkpoint was seen")
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return max(int(path.parent.name.split("-")[1]) for path in saved)
