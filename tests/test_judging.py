"""Who decides a comparison: `judge=`, from the option to the table."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison import SETTINGS, make_session
from door import launch, record, short, stages
from huggingface_hub import constants
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from eval.answers.reward_judge import Judge
from eval.results.best import chosen_by
from eval.results.deciding import deciding
from eval.results.metrics import ACCURACY, REWARD
from eval.results.row import Row
from eval.results.rows import build_rows
from eval.results.session import jobs_of
from launch.config.judging import GOLD, NONE, TRAINED, judge_of, with_judge_fold, with_one_judge
from launch.config.schema import Config
from launch.config.splits import with_split
from launch.stages.inputs import find_model
from launch.stages.judge import plan_judge, read_held_out
from recipes.config import FORMAT, UserError, read_config, read_json, write_config, write_json
from recipes.data.pairs import open_pairs

POCKET, FILE = ["model=pocket"], ["model=qwen2.5-0.5b", "dataset=file", "dataset.path=x.jsonl"]


@pytest.mark.parametrize(
    "words, judge",
    [
        ([*POCKET, "pipeline=compare"], GOLD),
        ([*FILE, "pipeline=compare"], TRAINED),
        ([*FILE, "pipeline=compare", "evaluate=false"], NONE),
        ([*FILE, "pipeline=orpo", "evaluate=true"], NONE),
        ([*FILE, "pipeline=orpo", "evaluate=true", "eval_split=validation"], TRAINED),
        ([*FILE, "pipeline=orpo", "judge=trained"], TRAINED),
        ([*FILE, "pipeline=compare", "judge=none"], NONE),
        ([*POCKET, "pipeline=compare", "judge=trained"], TRAINED),
        ([*FILE, "pipeline=compare", "judge=reward:someone/model"], "reward:someone/model"),
    ],
)
def test_the_judge_follows_from_data_and_pipelines(
    compose: Callable[..., Config], words: list[str], judge: str
) -> None:
    config = compose(*words)
    assert judge_of(config) == judge
    assert with_judge_fold(config).dataset.judge_fraction == (0.2 if judge == TRAINED else None)


def test_a_sweep_of_one_pipeline_has_a_judge_too(compose: Callable[..., Config]) -> None:
    """Its settings are compared by their responses, as pipelines are, not by what a method trains on."""
    config = compose(*FILE, "pipeline=orpo", "evaluate=true")
    assert judge_of(with_split(config, ["orpo.beta", "seed"])) == TRAINED
    assert judge_of(with_split(config, ["seed"])) == NONE


def test_settings_with_a_judge_each_are_not_chosen_by_it(compose: Callable[..., Config]) -> None:
    """Rewards of two reward models have no common scale."""
    config = with_split(compose(*FILE, "pipeline=orpo", "evaluate=true"), ["batch_size"])
    for name in ("batch_size", "tuning", "model.lora_r", "reward.learning_rate"):
        assert judge_of(with_one_judge(config, [name])) == NONE
        with pytest.raises(UserError, match=f"each value of {name} would have its own judge"):
            with_one_judge(replace(config, judge=TRAINED), [name])
    assert judge_of(with_one_judge(config, ["orpo.beta"])) == TRAINED
    several = compose(*FILE, "pipeline=compare")
    assert with_one_judge(several, ["batch_size"]) is several, "the pipelines of a setting share a judge"


def test_a_sweep_of_adapters_chooses_on_the_validation_split(compose: Callable[..., Config]) -> None:
    assert with_split(compose(*FILE, "tuning=lora"), ["model.lora_r"]).eval_split == "validation"
    assert with_split(compose(*FILE), ["model", "seed"]).eval_split == "test"


@pytest.mark.parametrize("judge", ["gold", "reward:", "nobody"])
def test_a_judge_that_there_is_not_is_refused(compose: Callable[..., Config], judge: str) -> None:
    with pytest.raises(UserError, match=f"judge={judge}: "):
        judge_of(compose(*FILE, "pipeline=compare", f"judge={judge}"))
    fraction = compose(*FILE, "pipeline=compare")
    with pytest.raises(UserError, match=r"judge_fraction=1.5: give a share"):
        with_judge_fold(replace(fraction, dataset=replace(fraction.dataset, judge_fraction=1.5)))


def test_a_judge_is_trained_on_pairs_that_no_policy_sees(words: Callable[..., list[str]], tmp_path: Path) -> None:
    options = ["pipeline=compare", "eval_prompts=4", "eval_samples=2", *short("sft", "dpo", "orpo", "reward")]
    launch(*words(tmp_path, *options))
    (judge,) = stages(tmp_path, "reward-*")
    config = read_config(judge)
    rows: Any = open_pairs(Path(config["pairs"]))
    split = {name: {str(prompt) for prompt in rows[name]["prompt"]} for name in ("train", "judge", "test")}
    assert config["split"] == "judge" and len(split["judge"]) == record(judge)["data"]["pairs"]["judge"]
    assert not split["judge"] & (split["train"] | split["test"]) and not split["train"] & split["test"]
    assert sum(map(len, split.values())) == 64
    assert record(judge)["engine"] == "packed" and record(judge)["computed_tokens"] < record(judge)["tokens"]
    (session,) = (tmp_path / "_sessions").iterdir()
    table = read_json(session / "table.json")["rows"]
    (orpo,) = (row for row in table if row["pipeline"] == "orpo")
    assert (
        orpo["values"]["reward_sampled"] is not None and orpo["against"]["win_rate"]["dpo"]["variance"]["samples"] >= 0
    )
    (kept,) = (judge / "eval").glob("right-*.json")
    measured = [read_json(path)["judge"]["right"] for path in stages(tmp_path, "orpo-*")[0].glob("eval/*.json")]
    assert measured == [read_json(kept)["right"]] and len(measured[0]) == len(rows["test"])
    accuracy = orpo["values"]["judge_accuracy"]
    assert (orpo["values"]["win_rate_over_rival"]["verdict"] == "no verdict") == (accuracy["low"] < 0.55)


def judged(tmp_path: Path, right: int) -> list[Row]:
    """A session whose judge ranks so many of 30 held-out pairs right; it likes DPO's responses, gold the others."""
    session = make_session(tmp_path)
    for path in tmp_path.glob("**/eval/*.json"):
        result = read_json(path)
        result["settings"] = {"judge": "reward-x"}
        result["judge"] = {"name": "reward-x", "right": [1.0] * right + [0.0] * (30 - right)}
        for place, response in enumerate(result["sampled"]):
            response["reward"] = float("dpo" in str(path)) + place / 100
        write_json(path, result)
    return build_rows(jobs_of(session))


def test_a_weak_judge_gives_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must surely rank more than 55 in a hundred right: of 30 pairs 23 leave 57.9% possible, 22 leave 54.4%."""
    monkeypatch.setitem(SETTINGS, "judge", "reward-x")
    strong = {row.pipeline: row for row in judged(tmp_path / "strong", 23)}
    weak = {row.pipeline: row for row in judged(tmp_path / "weak", 22)}
    for rows in (strong, weak):
        assert rows["dpo"].against["win_rate"]["orpo"].rate.mean == 1.0, "the judge decides, not the gold reward"
        assert rows["dpo"].against["gold_sampled"]["orpo"].rate.mean > 0.5
    assert weak["dpo"].against["win_rate"]["orpo"].verdict == "no verdict"
    assert strong["dpo"].against["win_rate"]["orpo"].verdict != "no verdict"


def test_what_cannot_decide_chooses_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that is too weak, or one for each setting."""
    monkeypatch.setitem(SETTINGS, "judge", "reward-x")
    strong, weak = (
        [row for row in judged(tmp_path / str(right), right) if row.pipeline == "orpo"] for right in (30, 18)
    )
    assert deciding(strong * 2) is REWARD and chosen_by(strong * 2) == ""
    assert deciding(weak * 2) is ACCURACY and "the judge is too weak to choose" in chosen_by(weak * 2)
    results = [result | {"judge": result["judge"] | {"name": "reward-y"}} for result in strong[0].results]
    both = [*strong, replace(strong[0], results=results)]
    fewer = replace(strong[0], seeds=strong[0].seeds[:1], results=strong[0].results[:1])
    assert deciding([strong[0], fewer]) is REWARD, "a seed that is missing makes no other judge"
    gold = [row for row in build_rows(jobs_of(make_session(tmp_path / "gold"))) if row.pipeline == "orpo"]
    assert deciding([*gold, *strong]) is deciding([*strong, *gold]) is ACCURACY
    assert deciding(both) is ACCURACY and "each setting has its own judge" in chosen_by(both)


def test_without_a_judge_nobody_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preference accuracy is compared under its own name."""
    session = make_session(tmp_path)
    for path in tmp_path.glob("**/eval/*.json"):
        result = json.loads(path.read_text())
        write_json(path, result | {"settings": {"judge": None}})
    (orpo,) = (row for row in build_rows(jobs_of(session)) if row.pipeline == "orpo")
    assert "win_rate" not in orpo.against and "preference_accuracy" in orpo.against
    assert orpo.values["win_rate_over_rival"] is None
    assert np.isfinite(orpo.against["gold_sampled"]["dpo"].p)


def test_a_judge_of_the_hub_is_read_at_one_commit(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Callable[..., Config]
) -> None:
    """A branch is resolved before anything trains, and the evaluation loads that commit whatever the branch is then."""
    cache, commits = tmp_path / "models--someone--judge", {"old": "0" * 40, "new": "1" * 40}
    for number, commit in enumerate(commits.values()):
        save_classifier(tiny_model, cache / "snapshots" / commit, seed=number)
    (cache / "refs").mkdir()
    (cache / "refs" / "v2").write_text(commits["old"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = compose(*FILE, "pipeline=compare", "judge=reward:someone/judge@v2")
    trained, settings = plan_judge(config, find_model(str(tiny_model), "main"), tmp_path, "")
    (cache / "refs" / "v2").write_text(commits["new"])
    assert (trained, settings) == ([], {"judge": f"someone/judge@{commits['old']}"})
    asked, said = [[{"role": "user", "content": "a"}]], [{"text": "b", "stopped": True}]
    old, new = (Judge(f"someone/judge@{commit}").rewards(asked, said) for commit in commits.values())
    assert Judge(str(settings["judge"])).rewards(asked, said) == old != new
    with pytest.raises(UserError, match="someone/judge is not in the local cache"):
        plan_judge(replace(config, judge="reward:someone/judge@v3"), find_model(str(tiny_model), "main"), tmp_path, "")


def test_a_reward_model_in_a_directory_is_known_by_its_content(
    compose: Callable[..., Config], tiny_model: Path, tmp_path: Path
) -> None:
    """Retrained in its place it is another judge: rewards of both would else stand in one table."""
    config = compose(*FILE, "pipeline=compare", f"judge=reward:{tmp_path}/judge")
    found = []
    for seed in (0, 1, 1):
        save_classifier(tiny_model, tmp_path / "judge", seed=seed)
        _, settings = plan_judge(config, find_model(str(tiny_model), "main"), tmp_path, "")
        assert settings["judge"] == f"{tmp_path}/judge"
        found.append(settings["judge_digest"])
    assert found[0] != found[1] == found[2]


NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns, please') }}{% endif %}"
)
NO_SYSTEM += "{{ m.content }}<|im_end|>{% endfor %}"


def test_a_judge_that_cannot_read_a_held_out_pair_is_refused_before_anything_trains(
    words: Callable[..., list[str]], pairs_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A foreign one, and one that a stage trained; the last held-out row alone has what its template rejects."""
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()[:4]]
    rows[-1]["prompt"].insert(0, {"role": "system", "content": "Be brief."})
    held = tmp_path / "held-out.jsonl"
    held.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = tmp_path / "judge"
    save_classifier(tiny_model, judge, seed=0)
    (judge / "chat_template.jinja").write_text(NO_SYSTEM)
    options = ["pipeline=orpo", "evaluate=true", f"dataset.test_path={held}", f"judge=reward:{judge}"]
    printed = launch(*words(tmp_path / "runs", *options), "--check", status=2)
    said = f"the judge {judge} cannot read a held-out dialogue (no system turns, please): name another"
    assert said in " ".join(printed.split()) and not list(tmp_path.glob("**/log.txt"))
    (pairs,) = (tmp_path / "runs" / "_pairs").glob("*/manifest.json")
    given = {"pairs": str(pairs.parent), "split": "test"}
    stage = tmp_path / "reward-1"
    shutil.copytree(judge, stage / "model")
    profile = {"name": "tiny", "model_name_or_path": "tiny", "pad_token": "<|pad|>"}
    write_config(stage, {"format": FORMAT, "stage": "reward", "model": profile})
    with pytest.raises(UserError, match="reward-1 cannot read a held-out dialogue"):
        read_held_out(str(stage), given)
    for reader in (judge, stage / "model"):
        (reader / "chat_template.jinja").write_text(NO_SYSTEM.replace("'system'", "'tool'"))
        read_held_out(str(reader), given)


def save_classifier(start: Path, place: Path, seed: int) -> None:
    """Save a reward model with a random head, and its tokenizer."""
    torch.manual_seed(seed)
    options = {"num_labels": 1, "pad_token_id": 0}
    AutoModelForSequenceClassification.from_pretrained(start, **options).save_pretrained(place)
    AutoTokenizer.from_pretrained(start).save_pretrained(place)
