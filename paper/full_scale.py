"""`make paper SCALE=full`: plan the paper's own models and data, and train those that fit this machine."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from rich.table import Column, Table

from launch.config.machine import gpu_memories
from launch.config.schema import Config, register
from launch.config.shape import shape_of
from launch.forecast.cost import forecast_all
from launch.forecast.tokens import tokens_of
from launch.plan import composed
from launch.stages.command import module
from paper.published import Experiment, experiments
from recipes.profiles import JUDGE
from recipes.system.commands import console

ROOT = Path("runs", "_paper-full")


@dataclass(frozen=True)
class Plan:
    """One row of the paper's tables: its command, the GPUs it needs, and its hours."""

    name: str
    tables: str
    command: list[str]  # after `python -m`
    processes: int
    memory_gb: float
    hours: float

    def runs_on(self, memories: list[float]) -> bool:
        """Whether it fits GPUs of these sizes, in GB; a card's memory is a few per cent below its nominal size."""
        return len([size for size in memories if size >= 0.9 * self.memory_gb]) >= self.processes


def plans(options: list[str]) -> list[Plan]:
    """Return the plan for every file of conf/experiment/orpo-paper.

    Raises:
        UserError: a launch with these options would be rejected.
    """
    register()
    return [plan(experiment, options) for experiment in experiments()]


def plan(experiment: Experiment, options: list[str]) -> Plan:
    """Return the plan for one experiment, with RLHF if the paper has it."""
    beside = ["pipeline=all"] if {"table 2", "table 3"} & {*experiment.tables} else []
    words = [*experiment.words, *beside, *options]
    config = composed([word for word in words if not word.startswith("seed=")])  # a forecast takes any one of them
    return Plan(experiment.name, ", ".join(experiment.tables), words, *needs(config))


def needs(config: Config) -> tuple[int, float, float]:
    """Return the GPUs, the memory of each in GB, and the hours that the pipelines of a configuration take."""
    found = forecast_all(config, shape_of(config.model), tokens_of(config))
    stages = {  # those that pipelines share once; the judge is a reward model beside theirs
        (name == JUDGE, stage.stage): stage.hours or 0.0 for name, stages in found.items() for stage in stages
    }
    return config.hardware.processes, config.hardware.memory_gb or 0.0, sum(stages.values())


def plan_full(options: list[str]) -> int:
    """Print the plan, and train what fits this machine; return the exit status.

    Raises:
        UserError: a launch with these options would be rejected.
    """
    found, memories = plans(options), gpu_memories()
    console.print(shown(found, memories))
    console.print(
        "Hours are the planner's, of one seed (seed=0,1,2 trains three), SFT counted once; RLOO samples by tokens, "
        "so its are a lower bound. Tables 2 and 3 are then judged: make eval SUITE=reward RUNS=<session> "
        "ARGS=model=<opt-1.3b's reward stage>. In the paper OPT-350M's reward model reinforces all three sizes, here "
        "each has its own.",
        soft_wrap=True,
    )
    for one in found:
        console.print(f"python -m launch --multirun {' '.join(one.command)}", soft_wrap=True)
    ready = [one for one in found if one.runs_on(memories)]
    if not ready:
        console.print("Nothing is trained here: no GPUs large enough for any of them.", soft_wrap=True)
    for one in ready:
        console.rule(f"{one.name}: {one.tables}", align="left")
        words = (*one.command, f"runs={ROOT}", f"session={one.name}")
        status = subprocess.run(module("launch", "--multirun", *words), check=False).returncode
        if status:
            return status if status > 0 else 1
    return 0


def shown(found: list[Plan], memories: list[float]) -> Table:
    """Return the plan as a table."""
    table = Table(Column("experiment", overflow="fold"), "reproduces", "machine", "hours", "here")
    for one in found:
        machine = f"{one.processes} x {one.memory_gb:.0f} GB"
        here = "is trained" if one.runs_on(memories) else "does not fit"
        table.add_row(one.name, one.tables, machine, f"{one.hours:.1f}", here)
    return table
