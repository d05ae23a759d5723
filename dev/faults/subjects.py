"""The subjects: small trainings of every method, on one and on two processes, a sweep, and a pretraining."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from recipes.system.paths import ROOT

UPDATES = 8
PLACES = [f"{first}{last}" for first in ("Ash", "Birch", "Clay", "Dale") for last in ("ford", "ham", "wick", "by")]
QUESTIONS = ("Where is {}?", "What is {} known for?", "Who lives in {}?", "How old is {}, would you say?")


# Moments of kills, see `dev.faults.kills`; an entry listed twice is twice as likely.
EARLY = ("start-up", "start-up", "tokenising", "training", "training", "checkpoint", "last save")
LATE = ("evaluation", "table")
BASE = ("start-up", "pretraining", "pretraining", "base's save", "training")


@dataclass(frozen=True)
class Subject:
    """A command of the launcher: its stages, its options besides the common ones, and its moments for kills."""

    stages: tuple[str, ...]
    options: tuple[str, ...]
    moments: tuple[str, ...] = EARLY

    @property
    def evaluates(self) -> bool:
        """Whether it evaluates what it trains."""
        return "evaluation" in self.moments


SUBJECTS = {
    "sft": Subject(("sft",), ("pipeline=sft",)),
    "dpo": Subject(("sft", "dpo"), ("pipeline=dpo",)),
    "orpo": Subject(("orpo",), ("pipeline=orpo",)),
    "dpo-2": Subject(("sft", "dpo"), ("pipeline=dpo", "hardware.processes=2")),
    "orpo-2": Subject(("orpo",), ("pipeline=orpo", "hardware.processes=2")),
    "sweep": Subject(
        ("orpo",), ("-m", "pipeline=orpo", "orpo.beta=0.1,0.5", "evaluate=true", "eval_prompts=6"), (*EARLY, *LATE)
    ),
    "base": Subject(("sft",), ("pipeline=sft",), BASE),
}


def make_inputs(directory: Path) -> None:
    """Write a tiny model with random weights, its tokenizer, and a file of pairs."""
    import torch

    from pocket.base import Size, build_model, build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    build_model(Size(layers=2, width=32, steps=0, learning_rate=0.0), tokenizer).save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    lines = []
    for number, (place, question) in enumerate((place, question) for place in PLACES for question in QUESTIONS):
        chosen = f"{place} lies by the river." + " It is old and quiet." * (number % 5)
        row = {"prompt": question.format(place), "chosen": chosen, "rejected": "No idea." + " Ask." * (number % 3)}
        lines.append(json.dumps(row) + "\n")
    (directory / "pairs.jsonl").write_text("".join(lines))


def command(subject: str, inputs: Path, runs: Path, *more: str) -> list[str]:
    """Return the command that trains a subject into `runs`: few optimizer steps, with a checkpoint after each."""
    words = [f"runs={runs}", "hardware=cpu", "hardware.per_device_batch=4", "batch_size=8", "model=pocket-small"]
    words += ["dataset=file", f"dataset.path={inputs / 'pairs.jsonl'}"]
    words += [] if subject == "base" else [f"model.model_name_or_path={inputs / 'model'}"]
    words += ["dataset.test_fraction=0.2", "dataset.max_new_tokens=8"]
    for stage in SUBJECTS[subject].stages:
        words += [f"{stage}.{word}" for word in (f"max_steps={UPDATES}", "save_steps=1", "learning_rate=1e-3")]
    return [sys.executable, "-m", "launch", *SUBJECTS[subject].options, *words, *more]


def start(words: list[str], log: Path, mark: str, **environment: str) -> "subprocess.Popen[bytes]":
    """Start a command in its own session; `mark`, in its environment, identifies its descendants."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "FAULTS_MARK": mark}
    with log.open("ab") as output:
        return subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet, **environment},
            start_new_session=True,
        )
