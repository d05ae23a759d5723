"""Train what several jobs of a sweep share, such as the SFT before every DPO, or their judge, in separate jobs first.

Otherwise one of the jobs would train such a stage, and the others would wait for it while holding their devices.
"""

import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from launch.config.judging import TRAINED, judge_of
from launch.config.schema import Config
from launch.config.splits import with_folds
from launch.executors.job import Outcome, keep
from launch.executors.queue import Queue, leave
from launch.stages.digest import Demonstrations, Start, digest, plan
from launch.stages.judge import plan_judge

FOLDER = "shared"  # of a session


def shared_rounds(session: Path, queue: Queue) -> list[Queue]:
    """Write a job for every stage that several jobs of a session would train; return directory -> configuration.

    They come in rounds; each starts after the one before has ended, as a stage starts from the stage before it.
    """
    shutil.rmtree(session / FOLDER, ignore_errors=True)  # of an earlier session of this name
    rounds: list[Queue] = []
    for configs in by_depth(list(queue.values())):
        rounds.append({})
        for number, config in enumerate(configs):
            stage = next((stages[-1] for stages in config.pipelines.values()), "judge")
            directory = session / FOLDER / f"{len(rounds)}-{stage}-{number}"
            outcome = Outcome([], seed=config.seed)
            outcome.describe(config)
            leave(config, directory)
            keep(outcome, directory)
            rounds[-1][directory] = config
    return rounds


def by_depth(configs: list[Config]) -> list[list[Config]]:
    """Return configurations that train what several of `configs` share: pipelines' first stages, then the second…"""
    wanted = Counter(key for config in configs for key in {key for keys in chains(config).values() for key in keys})
    found: dict[int, dict[str, Config]] = {}
    for config in configs:
        for pipeline, keys in chains(config).items():
            for depth, key in enumerate(keys):
                if wanted[key] > 1:
                    stages = config.pipelines[pipeline][: depth + 1]
                    alone = {"judge": judge_of(config), "evaluate": False, "budget": None}
                    job = replace(with_folds(config), pipelines={pipeline: stages}, **alone)
                    found.setdefault(depth, {}).setdefault(key, job)
    for key, job in judges(configs).items():
        if all(judge_key(other) != key for other in found.get(0, {}).values()):  # which would train it on the way
            found.setdefault(0, {})[key] = job
    return [list(found[depth].values()) for depth in sorted(found)]


def judges(configs: list[Config]) -> dict[str, Config]:
    """Return, for each judge that several jobs would train, a job that trains it alone."""
    keys = [key for config in configs if (key := judge_key(config))]
    alone: dict[str, Any] = {"pipelines": {}, "judge": TRAINED, "evaluate": False, "budget": None}
    jobs = {judge_key(config): replace(with_folds(config), **alone) for config in configs}
    return {key: jobs[key] for key, count in Counter(keys).items() if count > 1}


def judge_key(config: Config) -> str | None:
    """Return a key of the judge that a job trains, as `chains` has of stages; None if it trains none."""
    start = Start("", None, digest([asdict(config.model), config.model_options]))
    planned, _ = plan_judge(config, start, Path(), digest(asdict(with_folds(config).dataset)))
    return planned[0].config["digest"] if planned else None


def chains(config: Config) -> dict[str, list[str]]:
    """Return, for each pipeline of a job, a key for each stage: equal keys mean equal trainings.

    The last stages of a job with a budget are left out: only that job knows how long they train.
    """
    start = Start("", None, digest([asdict(config.model), config.model_options]))
    named = config.options["sft"]["dataset"]
    shown = Demonstrations(Path(), str(named)) if named else None
    found = {}
    for name, stages in config.pipelines.items():
        stages = stages[:-1] if config.budget else stages
        planned = plan(config.of(name), stages, start, Path(), digest(asdict(config.dataset)), demonstrations=shown)
        found[name] = [stage.config["digest"] for stage in planned]
    return found
