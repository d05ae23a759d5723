"""Successive halving: who goes on, on what budget; and what is trained in the end is the sweep's own."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from door import record, run, stages

from launch.halving import Setting, budget_words, halve, settings_of
from launch.stages.command import module
from recipes.config import UserError

Compose = Callable[..., dict[str, Any]]


def test_the_better_half_goes_on_with_twice_the_budget() -> None:
    """By a score that one setting has for every budget; of eight, the best four and then the best two."""
    asked: list[tuple[int, int]] = []

    def score(setting: Setting, *_: Any) -> float:
        asked.append((setting.number, setting.budget))
        return float("nan") if setting.number == 7 else -abs(setting.number - 5.2)

    found = halve(8, 2, 4, score)
    assert Counter(budget for _, budget in asked) == {1: 8, 2: 4, 4: 2}
    assert {number for number, budget in asked if budget == 2} == {4, 5, 6, 3}, "the one that failed is not among them"
    assert {number for number, budget in asked if budget == 4} == {5, 6} and found.best_params_["number"] == 5


def test_settings_are_all_combinations_of_the_swept_options() -> None:
    fixed, settings = settings_of(["pipeline=orpo", "orpo.beta=0.1,0.2", "orpo.learning_rate=1e-3,2e-3", "seed=3"])
    assert fixed == ["pipeline=orpo", "seed=3"] and len({*settings}) == 4
    assert ("orpo.beta=0.1", "orpo.learning_rate=0.002") in settings
    for words in (["pipeline=orpo"], ["orpo.beta=1,2", "seed=0,1"]):
        with pytest.raises(UserError, match="halving needs options"):
            settings_of(words)


def test_a_budget_shortens_the_stages_that_are_swept(compose: Compose) -> None:
    dpo = compose("pipeline=dpo", "dpo.max_steps=50", "sft.num_train_epochs=3")
    assert budget_words(dpo, ("dpo.beta=0.1",), 0.25) == ["dpo.max_steps=12"]
    assert budget_words(dpo, ("tuning=lora",), 0.5) == ["sft.num_train_epochs=1.5", "dpo.max_steps=25"]
    assert budget_words(dpo, ("dpo.beta=0.1",), 1) == []


@pytest.mark.slow
def test_halving_trains_rungs_of_their_own_and_ends_in_the_sweeps_stages(
    words: Callable[..., list[str]], tmp_path: Path
) -> None:
    options = words(tmp_path, "pipeline=orpo", "orpo.beta=0.1,0.2", "orpo.learning_rate=1e-3,1e-2", "orpo.max_steps=8")
    printed = run(module("launch.halving", "factor=2", "rungs=2", *options, "eval_prompts=4", "launcher.at_once=2"))
    assert sorted(record(directory)["updates"] for directory in stages(tmp_path)) == [4, 4, 4, 4, 8, 8]
    jobs = [json.loads(path.read_text()) for path in tmp_path.glob("_sessions/*/*/job.json")]
    assert len(jobs) == 6 and all(not job["errors"] for job in jobs) and "best of 4 settings: orpo.beta=" in printed
