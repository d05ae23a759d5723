"""What a page says of a sweep: settings once each, the best of each method, and budgets that are equal."""

import json
import shutil
from itertools import combinations
from pathlib import Path
from statistics import mean

import pytest
from comparison import make_session, stage
from test_across import half, session_of, won

from eval.report import sweep_figures
from eval.results.best import best_settings, budgets, expected_best, is_sweep
from eval.results.rows import build_rows
from eval.results.session import jobs_of
from launch.config.sweep import as_one_job
from launch.plan import main
from recipes.config import read_json, write_json


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison under three lambdas: DPO's stages are the same in all, ORPO's answers better at 0.2."""
    folder = tmp_path_factory.mktemp("sweep")
    made = make_session(folder)
    jobs = [json.loads(path.read_text()) for path in sorted(made.glob("*/job.json"))]
    for place, (value, more) in enumerate(((0.1, 0), (0.2, 1), (0.5, -1))):
        for job in jobs:
            home = folder / f"seed-{job['seed']}-{value}"
            trained = stage(home / "orpo", "orpo", job["seed"])
            (path,) = (home / "orpo" / "eval").glob("*.json")
            result = json.loads(path.read_text())
            for answer in result["sampled"]:
                answer["gold"] += more
            write_json(path, result)
            swept = job | {"setting": {"orpo.beta": value}, "pipelines": job["pipelines"] | {"orpo": [trained]}}
            directory = made / str(2 * place + job["seed"])
            directory.mkdir(exist_ok=True)
            write_json(directory / "job.json", swept)
    return made


def test_the_best_setting_is_found_and_a_setting_that_changes_nothing_counts_once(session: Path) -> None:
    rows = build_rows(jobs_of(session))
    head, *lines = best_settings(rows)
    assert head[1:] == ["settings tried", "best setting", "gold reward, temperature 1", "expected best of 1"]
    assert [line[:3] for line in lines] == [
        ["SFT", "1", "–"],
        ["SFT → DPO", "1", "–"],
        ["ORPO", "3", "orpo.beta=0.2"],
    ]
    best, alike = map(float, lines[2][3:])
    assert best == pytest.approx(alike + 1, abs=0.011), "one of three settings, 0, 1 and -1 above their mean"
    assert is_sweep(rows) and "not equal" in budgets(rows) and "any 1" in budgets(rows)
    alone = [row for row in rows if row.pipeline == "orpo"]
    assert "Budgets are equal: 3 settings each" in budgets(alone)


def test_the_expected_best_is_the_mean_over_all_subsets() -> None:
    values = [0.3, -1.0, 2.0, 0.3, 5.0]
    for count in range(1, 6):
        assert expected_best(values, count) == pytest.approx(mean(map(max, combinations(values, count))))


def test_a_sweeps_figure_has_every_value_and_one_setting_has_none(session: Path) -> None:
    rows = build_rows(jobs_of(session))
    ((figure, said),) = sweep_figures(rows)
    assert all(f">{value}<" in figure for value in ("0.1", "0.2", "0.5", "orpo.", "beta"))
    assert "gold reward, temperature 1" in said
    alone = [row for row in rows if row.setting in ({}, {"orpo.beta": 0.1})]
    assert not is_sweep(alone) and sweep_figures(alone) == []


@pytest.mark.parametrize("word", ["seed=0,1", "orpo.beta=choice(0.1,0.2)", "sweep=pocket-orpo", "experiment=mine"])
def test_one_job_is_no_multirun_and_what_may_be_several_is(word: str) -> None:
    assert as_one_job(["--multirun", "model=pocket", "seed=0"]) == ["model=pocket", "seed=0"]
    assert as_one_job(["--multirun", "model=pocket", word]) == ["--multirun", "model=pocket", word]


def test_a_sweep_is_not_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=pocket-small,pocket", "pipeline=compare"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: model=pocket-small,pocket: make plan forecasts one job")


def test_trials_and_seeds_are_said_as_repetitions(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=pocket-small", "pipeline=compare"]
    assert main([*words, "evaluate=true", "eval_split=validation"]) == 0, "on whose split settings are chosen"
    once = capsys.readouterr().out.splitlines()
    assert main([*words, "tune=8", "seed=0,1,2"]) == 0
    several = capsys.readouterr().out.splitlines()
    (line,) = set(several) - set(once)
    assert line == "With tune=8 seed=0,1,2 every pipeline trains 11 times; trials choose other epochs."
    assert [row for row in several if row != line] == once
    assert main([*words, "tune=1"]) == 2


def test_settings_are_chosen_for_each_base_model(tmp_path: Path) -> None:
    """Two weights of ORPO for each of two models: each model has its best one, and none is chosen among models."""
    session = session_of(tmp_path, {"small": won, "large": half}, seeds=1)
    for path in sorted(session.glob("*/job.json")):
        job = read_json(path)
        again = session / str(10 + int(path.parent.name))
        again.mkdir()
        other = {name: [f"{path}-again" for path in stages] for name, stages in job["pipelines"].items()}
        for stages, copies in zip(job["pipelines"].values(), other.values(), strict=True):
            for trained, copy in zip(stages, copies, strict=True):
                shutil.copytree(trained, copy, dirs_exist_ok=True)
        setting = job["setting"]
        write_json(path, job | {"setting": setting | {"orpo.beta": 1}})
        write_json(again / "job.json", job | {"pipelines": other, "setting": setting | {"orpo.beta": 2}})
    rows = build_rows(jobs_of(session))
    assert is_sweep(rows)
    named = [line[:2] for line in best_settings(rows)[1:]]
    assert ["small: ORPO", "2"] in named and ["large: ORPO", "2"] in named
    assert not any("model=" in cell for line in best_settings(rows) for cell in line)
