"""Trainings that go wrong on purpose, beside healthy ones: the tables of docs/choosing.md.

    python -m dev.trouble

Each case is one sweep in the embedded world; what was trained before is not trained again. docs/trouble.json keeps the
figures.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.readme import fill
from eval.results.cells import markdown
from eval.results.history import read_log
from eval.results.metrics import METRIC
from eval.results.responses import responses
from eval.results.row import Row
from eval.results.rows import build_rows
from eval.results.session import RUNS, jobs_of
from launch.stages.command import module
from recipes.config import UserError, read_json, write_json
from recipes.system.commands import output, run_command
from recipes.system.paths import ROOT

FIGURES = ROOT / "docs" / "trouble.json"
LAST = 0.1  # of the logged steps: what is shown of a training is the mean over its end
OFTEN, LONG = 3, 4  # a response repeats itself if it has the same four words in a row three times
SETTLED = ("kl", "right_greedy", "preference_accuracy", "forgetting", "stopped", "length")  # rows of the evaluation
REPEATS = "responses that repeat themselves"
NAMES = {"forgetting": "loss on plain text above the base model's, nats per token"}  # where the table's says less


@dataclass(frozen=True)
class Case:
    """A sweep whose first value is healthy."""

    words: tuple[str, ...]  # of the sweep; the last one has the values
    logged: tuple[str, ...]  # quantities that the trainer logs

    @property
    def command(self) -> str:
        """How a user types it."""
        return f'make sweep ARGS="{" ".join(self.words)}"'


ORPO = ("nll_loss", "log_odds_ratio", "rewards_scaled/accuracies", "rewards_scaled/margins", "logps_mean/chosen")
DPO = ("loss", "rewards_reference/accuracies", "rewards_reference/margins", "logps_sum/chosen", "logps_sum/rejected")
CASES = {
    "orpo-rate": Case(("pipeline=orpo", "orpo.learning_rate=0.00309,0.1"), ORPO),
    "orpo-weight": Case(("pipeline=orpo", "orpo.beta=1.56,0.01,100"), ORPO),
    "dpo-rate": Case(("pipeline=dpo", "dpo.learning_rate=0.000306,0.003,0.000001"), DPO),
    "dpo-alone": Case(("pipeline=dpo_alone", "dpo.learning_rate=0.000306,0.003"), DPO),
    "sft-epochs": Case(("pipeline=sft", "dataset.train_rows=200", "sft.num_train_epochs=5,80"), ("nll_loss",)),
    "ends-cut": Case(
        ("pipeline=sft", "dataset.policies.overlong=truncate_answer", "dataset.max_length=128,24"), ("nll_loss",)
    ),
}


def run_case(name: str, case: Case) -> dict[str, Any]:
    """Train and evaluate a case; return its command and its figures, column -> row -> number."""
    session = RUNS / "_sessions" / f"trouble-{name}"
    words = [*case.words, "evaluate=true", f"session={session.name}"]
    output.print(f"{name}: {case.command}", soft_wrap=True)
    subprocess.run(module("launch", "--multirun", *words), check=True)
    rows = [row for row in build_rows(jobs_of(session)) if row.stages]
    return {"command": case.command, "columns": {str(row.setting): figures(row, case) for row in rows}}


def figures(row: Row, case: Case) -> dict[str, float]:
    """Return what was logged at the end of a training, and what its model was measured to do."""
    log = [entry for entry in read_log(row.directories[0][-1]) if case.logged[0] in entry]
    end = log[-max(1, round(LAST * len(log))) :]
    logged = {name: float(np.mean([entry[name] for entry in end])) for name in case.logged}
    measured = {key: row.estimate(key).mean for key in SETTLED}
    said = [response["text"] for response in responses([row]) if response["temperature"]]
    return logged | measured | {REPEATS: float(np.mean([repeats(text) for text in said]))}


def repeats(text: str) -> bool:
    """Whether the same `LONG` words in a row come `OFTEN` times."""
    words = re.findall(r"\w+", text.lower())
    rows = [tuple(words[start : start + LONG]) for start in range(len(words) - LONG + 1)]
    return any(rows.count(row) >= OFTEN for row in {*rows})


def block(case: dict[str, Any]) -> str:
    """Return a case's command and table, as docs/choosing.md shows them."""
    columns = case["columns"]
    head = ["at the end of the training, and after it", *(f"`{name}`" for name in columns)]
    keys = next(iter(columns.values()))
    lines = [[label(key), *(shown(key, column[key]) for column in columns.values())] for key in keys]
    return "\n".join([f"`{case['command']}`", "", *markdown([head, *lines])])


def label(key: str) -> str:
    """Return what a figure is called: a logged quantity as the trainer calls it."""
    if key in METRIC:
        return NAMES.get(key, METRIC[key].label)
    return key if key == REPEATS else f"`{key}`"


def shown(key: str, value: float) -> str:
    """Return a figure as text."""
    if key in METRIC:
        return METRIC[key].text(value)
    return f"{value:.1%}" if key == REPEATS else f"{value:.2f}"


def main(words: list[str]) -> None:
    """Train every case and write its table; the words choose cases.

    Raises:
        UserError: there is no such case.
    """
    if unknown := [word for word in words if word not in CASES]:
        raise UserError(f"no case {', '.join(unknown)}: use {', '.join(CASES)}")
    for name in words or CASES:
        found = run_case(name, CASES[name])
        write_json(FIGURES, (read_json(FIGURES) if FIGURES.exists() else {}) | {name: found})
        fill(ROOT / "docs" / "choosing.md", name, block(found))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
