"""Tuning: every pipeline gets as many trials, chosen on the validation split, and the winners are reported on test."""

import json
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import yaml
from door import run
from hydra import initialize_config_dir

from launch.config.errors import CONF
from launch.config.judging import judge_of
from launch.config.schema import Config
from launch.config.splits import with_folds, with_split
from launch.config.tuned import without_named
from launch.tune import read
from launch.tuning.space import read_range, space_of
from recipes.config import UserError
from recipes.data.pairs import open_pairs
from recipes.methods import METHODS

Compose = Callable[..., Config]
RATE = {"low": 0.1, "high": 10, "times": "configured"}


def test_a_pipelines_space_has_all_its_stages_and_nothing_that_is_given(compose: Compose) -> None:
    config = compose("pipeline=compare", "dpo.beta=0.3", "sft.learning_rate=1e-3")
    space = space_of(config, "dpo", {"dpo.beta"})
    assert set(space) == {*("sft.learning_rate", "sft.num_train_epochs", "dpo.learning_rate", "dpo.num_train_epochs")}
    assert space["sft.learning_rate"].low < 1e-3 < space["sft.learning_rate"].high
    assert {name.partition(".")[0] for name in space_of(config, "orpo", set())} == {"orpo"}
    with pytest.raises(UserError, match="nothing is left to tune for sft"):
        space_of(config, "sft", {"sft.learning_rate", "sft.num_train_epochs"})


def test_every_method_has_its_ranges(compose: Compose) -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in Path("conf/tune").glob("*.yaml")}
    assert {*files} == {*METHODS}
    for stage, given in files.items():
        for name, values in given.items():
            found = read_range(Path(f"conf/tune/{stage}.yaml"), name, values, compose().options[stage])
            assert found.low <= compose().options[stage][name] <= found.high


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("no_such_option", RATE),
        ("learning_rate", {"low": 1}),
        ("learning_rate", [1, 2]),
        ("learning_rate", RATE | {"times": "twice"}),
        ("learning_rate", {"low": 2, "high": 1}),
    ],
)
def test_a_wrong_range_is_refused_by_its_file(compose: Compose, name: str, given: object) -> None:
    with pytest.raises(UserError, match=rf"conf/tune/sft.yaml: {name}"):
        read_range(Path("conf/tune/sft.yaml"), name, given, compose().options["sft"])


def test_a_command_line_names_trials_and_seeds() -> None:
    command = read(["--multirun", "model=pocket", "tune=8", "seed=0,1,2", "dpo.beta=0.1"])
    assert (command.trials, command.seeds) == (8, ["0", "1", "2"])
    assert command.words == ["launcher=local", "evaluate=true", "model=pocket", "dpo.beta=0.1"]
    assert read(["tune=2", "launcher=slurm"]).words[0] == "evaluate=true" and read(["tune=2"]).seeds == ["0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune=1"], "tune=1: give one number"),
        (["tune=many"], "tune=many: give one number"),
        (["tune=2", "tune=3"], "tune=2,3: give one number"),
        (["tune=4", "dpo.beta=0.1,0.2"], "give dpo.beta one value"),
        (["tune=4", "eval_split=test"], "chooses on the validation split, the test split is for reports"),
        (["tune=4", "evaluate=false"], "chooses by what is evaluated: remove evaluate=false"),
    ],
)
def test_a_command_line_that_cannot_be_tuned_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(words)


@pytest.mark.parametrize("word", ["judge=none", "judge=people", "budget=pairs"])
def test_what_nobody_can_choose_by_is_refused_before_any_training(
    words: Callable[..., list[str]], tmp_path: Path, word: str
) -> None:
    printed = run([sys.executable, "-m", "launch", *words(tmp_path, "pipeline=compare", "tune=2", word)], status=2)
    assert "error: tune=2" in printed and not list(tmp_path.rglob("record.json"))


def test_one_pipeline_is_tuned_by_a_judge_that_is_trained_for_it(compose: Compose, pairs_file: Path) -> None:
    words = ["model=qwen2.5-0.5b", "dataset=file", f"dataset.path={pairs_file}", "pipeline=orpo", "tune=2"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = read(words).config()
    assert judge_of(config) == "trained" and with_folds(config).dataset.judge_fraction == 0.2


def test_an_option_on_the_command_line_beats_a_tuned_one(compose: Compose) -> None:
    own = "+tuned={dpo:{sft.learning_rate:0.5,dpo.beta:0.7},orpo:{orpo.beta:3}}"
    config = without_named(compose("pipeline=compare", own, "dpo.beta=0.2"), ["dpo.beta=0.2", "seed=3"])
    assert config.of("dpo").options["sft"]["learning_rate"] == 0.5
    assert config.of("dpo").options["dpo"]["beta"] == 0.2
    assert config.of("orpo").options["orpo"]["beta"] == 3
    assert config.of("sft") is config


def test_settings_are_chosen_on_the_validation_split_and_all_else_is_reported_on_test(compose: Compose) -> None:
    """A sweep of data sets or seeds chooses nothing."""
    config = compose()
    assert with_split(config, ["orpo.beta", "dataset"]).eval_split == "validation"
    assert with_split(config, ["batch_size"]).eval_split == "validation"
    assert with_split(config, ["dataset", "model"]).eval_split == "test"
    assert with_split(compose("eval_split=test"), ["orpo.beta"]).eval_split == "test"
    with pytest.raises(UserError, match="eval_split=train: use test or validation"):
        with_split(compose("eval_split=train"), [])


def test_prompts_are_held_out_only_where_something_is_chosen_by_them(compose: Compose) -> None:
    def fraction(*words: str, swept: tuple[str, ...] = ()) -> float | None:
        config = with_split(compose("pipeline=orpo", "dataset=ultrafeedback", *words), swept)
        return with_folds(config).dataset.validation_fraction

    assert fraction() is None
    assert fraction(swept=("orpo.beta",)) == 0.1 and fraction("orpo.load_best_model_at_end=true") == 0.1
    assert fraction("dataset.validation_fraction=0.3") == 0.3
    with pytest.raises(UserError, match=r"validation_fraction=1\.5: give a share"):
        fraction("dataset.validation_fraction=1.5")


def test_every_pipeline_gets_as_many_trials_and_the_winners_are_reported_on_test(
    words: Callable[..., list[str]], tmp_path: Path
) -> None:
    asked = words(
        tmp_path, "pipeline=compare", "~pipelines.dpo", "tune=2", "seed=0,1", "session=tuned", "launcher=local"
    )
    printed = run([sys.executable, "-m", "launch", *asked])
    session = tmp_path / "_sessions" / "tuned"
    trials = [json.loads(path.read_text()) for path in sorted((session / "tune").glob("[0-9]*/job.json"))]
    assert [list(job["pipelines"]) for job in trials] == [["sft"], ["sft"], ["orpo"], ["orpo"]]
    assert {job["evaluation"]["split"] for job in trials} == {"validation"} and {job["seed"] for job in trials} == {0}
    finals = [json.loads((session / str(number) / "job.json").read_text()) for number in range(2)]
    assert [job["seed"] for job in finals] == [0, 1] and all("split" not in job["evaluation"] for job in finals)
    rows = open_pairs(Path(finals[0]["evaluation"]["pairs"]))
    prompts = {split: {str(row) for row in rows[split]["prompt"]} for split in rows}
    assert {*prompts} == {"train", "validation", "test", "judge"}
    assert sum(map(len, prompts.values())) == len({*chain.from_iterable(prompts.values())})
    rights = [json.loads(path.read_text())["judge"]["right"] for path in tmp_path.glob("*/*/orpo-*/eval/*.json")]
    assert {*map(len, rights)} == {len(rows["test"]) + len(rows["validation"])}, "no judge is tried on few pairs"
    for name in ("sft", "orpo"):
        chosen = finals[0]["tuned"]["pipelines"][name]["chosen"]
        assert chosen in [job["setting"] for job in trials]
        trained = yaml.safe_load((Path(finals[0]["pipelines"][name][0]) / "config.yaml").read_text())["options"]
        assert all(trained[option.partition(".")[2]] == value for option, value in chosen.items())
        assert finals[0]["pipelines"][name] in [job["pipelines"].get(name) for job in trials]  # trained once
    profile = yaml.safe_load((session / "tuned.yaml").read_text())
    assert profile["tuned_by"].startswith("2 trials of each pipeline, chosen by")
    assert profile["tuned"] == {name: found["chosen"] for name, found in finals[0]["tuned"]["pipelines"].items()}
    assert "best of 2" in printed
