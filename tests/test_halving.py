"""Successive halving: who goes on, on what budget; and what is trained in the end is the sweep's own."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from door import record, run, stages

from launch.config.schema import Config
from launch.halving import halve, own_words, settings_of, shortened
from launch.stages.command import module
from recipes.config import UserError

Compose = Callable[..., Config]


def test_the_better_half_goes_on_with_twice_the_budget() -> None:
    """Of eight, the best four and then the best two; a setting that failed is not tried again."""
    trained: list[tuple[float, list[int]]] = []

    def train(settings: list[int], share: float) -> list[float]:
        trained.append((share, settings))
        return [math.nan if setting == 7 else -abs(setting - 5.2) for setting in settings]

    assert halve(list(range(8)), 2, 3, train) == (5, pytest.approx(-0.2))
    assert [share for share, _ in trained] == [1 / 4, 1 / 2, 1]
    assert [{*settings} for _, settings in trained] == [{*range(8)}, {4, 5, 6, 3}, {5, 6}]


@pytest.mark.parametrize(
    ("settings", "factor", "rungs", "trained"),
    [(2, 2, 3, [(1 / 2, 2), (1, 1)]), (8, 4, 2, [(1 / 4, 8), (1, 2)]), (9, 3, 3, [(1 / 9, 9), (1 / 3, 3), (1, 1)])],
)
def test_rungs_are_as_many_as_the_settings_allow(
    settings: int, factor: int, rungs: int, trained: list[tuple[float, int]]
) -> None:
    """The last one always trains to the full length."""
    asked: list[tuple[float, int]] = []

    def train(numbers: list[int], share: float) -> list[float]:
        asked.append((share, len(numbers)))
        return [float(number) for number in numbers]

    assert halve(list(range(settings)), factor, rungs, train) == (settings - 1, settings - 1)
    assert trained == asked


def test_where_every_setting_fails_there_is_no_best_and_no_further_rung() -> None:
    shares: list[float] = []

    def train(settings: list[int], share: float) -> list[float]:
        shares.append(share)
        return [math.nan] * len(settings)

    assert halve([0, 1, 2, 3], 2, 3, train) is None and shares == [1 / 4]


def test_settings_are_all_combinations_of_the_swept_options() -> None:
    fixed, settings = settings_of(["pipeline=orpo", "orpo.beta=0.1,0.2", "orpo.learning_rate=1e-3,2e-3", "seed=3"])
    assert fixed == ["pipeline=orpo", "seed=3"] and len({*settings}) == 4
    assert ("orpo.beta=0.1", "orpo.learning_rate=0.002") in settings
    for words in (["pipeline=orpo"], ["orpo.beta=1,2", "seed=0,1"]):
        with pytest.raises(UserError, match="halving needs an option"):
            settings_of(words)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "eval_split=test",
            "halving chooses on the validation split, the test split is for reports: remove eval_split",
        ),
        ("evaluate=false", "halving chooses by what is evaluated: remove evaluate=false"),
        ("factor=1", "factor=1 rungs=3: give whole numbers, factor at least 2"),
        ("factor=1.5", "factor=1.5 rungs=3: give whole numbers"),
        ("rungs=0", "factor=2 rungs=0: give whole numbers, factor at least 2 and rungs at least 1"),
    ],
)
def test_words_that_would_leave_nothing_to_choose_by_are_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        own_words(["pipeline=orpo", "orpo.beta=0.1,0.2", word])


def test_its_own_words_are_not_the_configurations() -> None:
    given = ["orpo.beta=0.1,0.2", "rungs=4", "eval_split=validation", "factor=3"]
    assert own_words(given) == (3, 4, ["launcher=local", "evaluate=true", "orpo.beta=0.1,0.2", "eval_split=validation"])
    assert own_words(["launcher=slurm"]) == (2, 3, ["evaluate=true", "eval_split=validation", "launcher=slurm"])


def test_a_budget_shortens_the_stages_that_are_swept(compose: Compose) -> None:
    dpo = compose("pipeline=dpo", "dpo.max_steps=50", "sft.num_train_epochs=3")
    assert shortened(dpo, ("dpo.beta=0.1",), 0.25) == ["dpo.max_steps=12"]
    assert shortened(dpo, ("tuning=lora",), 0.5) == ["sft.num_train_epochs=1.5", "dpo.max_steps=25"]
    assert shortened(dpo, ("dpo.beta=0.1",), 1) == []


@pytest.mark.slow
def test_halving_trains_rungs_of_their_own_and_ends_in_the_sweeps_stages(
    words: Callable[..., list[str]], tmp_path: Path
) -> None:
    options = words(tmp_path, "pipeline=orpo", "orpo.beta=0.1,0.2", "orpo.learning_rate=1e-3,1e-2", "orpo.max_steps=8")
    printed = run(module("launch.halving", "factor=2", "rungs=2", *options, "eval_prompts=4", "launcher.at_once=2"))
    assert sorted(record(directory)["updates"] for directory in stages(tmp_path)) == [4, 4, 4, 4, 8, 8]
    jobs = [json.loads(path.read_text()) for path in tmp_path.glob("_sessions/*/*/job.json")]
    assert len(jobs) == 6 and all(not job["errors"] for job in jobs)
    (table,) = tmp_path.glob("_sessions/*/table.json")
    settings = [row["setting"] for row in json.loads(table.read_text())["rows"] if row["pipeline"] == "orpo"]
    assert [setting.get("orpo.max_steps", 8) for setting in settings] == [4, 4, 4, 4, 8, 8], (
        "rungs have rows of their own"
    )
    assert "best of 4 settings: orpo.beta=" in printed
