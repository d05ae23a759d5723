"""The third pipeline through the user's door: a reward model on the pairs, RLOO against it, and its judgement."""

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from door import PATIENCE, kill, launch, losses, record, run, stages, start_warm, trainer_of, wait_for_step, weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from eval.answers.reward_judge import Judge
from launch.config.checks import refuse_useless
from launch.stages.inputs import asked_reward_model
from recipes.config import Stage, UserError
from recipes.data.prepare import load_pairs, load_prompts, open_pairs
from recipes.training.flops import Reading, forward, training
from recipes.training.reading import matrices
from recipes.training.reward_model import load_classifier

Words = Callable[..., list[str]]
LN2 = 0.6931471805599453
SHORT = ["sft.max_steps=3", "reward.max_steps=12", "reward.learning_rate=1e-3", "rloo.max_steps=24"]
RLHF = ["pipeline=rlhf", *SHORT, "rloo.learning_rate=1e-3", "reward.save_steps=2", "rloo.save_steps=5"]
JUDGED = ["evaluate=true", "eval_prompts=4"]


@pytest.fixture(scope="module")
def rlhf(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished and evaluated RLHF."""
    runs = tmp_path_factory.mktemp("rlhf")
    launch(*words(runs, *RLHF, *JUDGED))
    return runs


def stage(runs: Path, name: str) -> Path:
    (directory,) = stages(runs, f"{name}-*")
    return directory


def test_both_later_stages_start_from_sft_and_rloo_asks_the_reward_model(rlhf: Path) -> None:
    for name in ("reward", "rloo"):
        assert Stage.load(stage(rlhf, name)).start == str(stage(rlhf, "sft") / "model")
    assert record(stage(rlhf, "rloo"))["reward_model"] == str(stage(rlhf, "reward") / "model")
    AutoModelForCausalLM.from_pretrained(stage(rlhf, "rloo") / "model")


def test_a_fresh_reward_model_prefers_nothing_and_a_trained_one_ranks_its_pairs(rlhf: Path) -> None:
    directory = stage(rlhf, "reward")
    assert record(directory)["first_loss"] == pytest.approx(LN2, abs=1e-6) and losses(directory)[-1] < LN2
    assert record(directory)["engine"] == "packed"
    model = AutoModelForSequenceClassification.from_pretrained(directory / "model")
    pairs: Any = load_pairs(Stage.load(directory).pairs)["train"]
    reward = load_classifier(str(directory / "model"), None, foreign=False)
    chosen, rejected = (
        reward.of_ids([row["prompt_ids"] + row[f"{answer}_ids"] for row in pairs]) for answer in ("chosen", "rejected")
    )
    assert (chosen > rejected).float().mean() > 0.9
    alone = model(torch.tensor([pairs[0]["prompt_ids"] + pairs[0]["chosen_ids"]])).logits
    assert alone.shape == (1, 1) and alone.item() == pytest.approx(chosen[0].item(), abs=1e-5), "padding counts not"


def test_rloo_answers_the_training_prompts_and_counts_all_that_is_computed(rlhf: Path) -> None:
    directory = stage(rlhf, "rloo")
    pairs = Stage.load(directory).pairs
    assert list(load_prompts(pairs)["train"]["prompt"]) == list(load_pairs(pairs)["train"]["prompt_ids"])
    found = record(directory)
    assert found["pairs"] == 24 * 4 and found["epochs"] == pytest.approx(24 / (len(load_pairs(pairs)["train"]) // 4))
    # two answers to a prompt: sampled, scored for the ratio, trained on; then the reference and the reward model
    assert found["forward_passes_per_pair"] == pytest.approx(2 * (3 + 2) * found["epochs"])
    assert 0 < found["generated_tokens"] < found["tokens"] <= found["computed_tokens"] // 3
    assert found["inference_tokens"] * 3 == found["computed_tokens"] * 2
    policy = matrices(AutoModelForCausalLM.from_pretrained(stage(rlhf, "sft") / "model"))
    judge = matrices(AutoModelForSequenceClassification.from_pretrained(stage(rlhf, "reward") / "model"))
    read = Reading(found["inference_tokens"] // 2, found["scored_tokens"], found["attended"])
    once, judged = forward(policy, read), forward(judge, replace(read, scored=read.tokens))
    assert found["flops"] == pytest.approx(training(policy, read) + (2 + 1) * once + judged)


def test_the_first_loss_of_rloo_is_zero(rlhf: Path) -> None:
    """The ratio to the sampling policy is one, and leave-one-out advantages of a prompt add up to nothing."""
    assert abs(record(stage(rlhf, "rloo"))["first_loss"]) < 1e-6


def test_the_table_and_the_reward_models_judgement_have_the_pipeline(rlhf: Path) -> None:
    (session,) = (rlhf / "_sessions").iterdir()
    assert "SFT → RM → RLOO" in (session / "table.md").read_text()
    printed = run([sys.executable, "-m", "eval.reward", str(session)])
    assert "SFT → RM → RLOO" in printed and str(stage(rlhf, "reward")) in printed
    found = json.loads((session / "reward.json").read_text())
    assert {name: len(values["rewards"][0]) for name, values in found["pipelines"].items()} == {
        "base model": 4,
        "SFT → RM → RLOO": 4,
    }
    rates = [rate["mean"] for rate in found["win_rates"]]
    assert len(rates) == 2 and sum(rates) == pytest.approx(1.0)
    assert ElementTree.parse(session / "reward-distributions.svg").getroot().tag.endswith("svg")


def test_the_judge_reads_answers_in_the_ids_of_the_pairs(rlhf: Path) -> None:
    judge = Judge(stage(rlhf, "reward"))
    rows = open_pairs(Stage.load(stage(rlhf, "reward")).pairs)["test"].to_list()
    answers = [{"text": row["chosen"], "stopped": True} for row in rows]
    expected = judge.reward.of_ids([row["prompt_ids"] + row["chosen_ids"] for row in rows]).tolist()
    assert judge.rewards([row["prompt"] for row in rows], answers) == pytest.approx(expected, abs=1e-5)


def test_a_second_run_trains_nothing_and_a_named_reward_model_takes_the_place_of_a_trained_one(
    words: Words, rlhf: Path
) -> None:
    assert launch(*words(rlhf, *RLHF, *JUDGED)).count("done before, skipped") == 3
    named = stage(rlhf, "reward") / "model"
    options = [word for word in RLHF if not word.startswith("reward.")]
    options += ["pipelines.rlhf=[sft,rloo]", f"rloo.reward_model={named}", "rloo.max_steps=2"]
    assert launch(*words(rlhf, *options)).count("done before, skipped") == 1
    other = next(path for path in stages(rlhf, "rloo-*") if record(path)["updates"] == 2)
    assert record(other)["reward_model"] == str(named)


def test_killed_stages_resume_bit_for_bit(words: Words, rlhf: Path, tmp_path: Path) -> None:
    """RLOO too: sampling draws from the generator whose state a checkpoint keeps, and an update has its own answers."""
    for name, step in (("reward", 4), ("rloo", 13)):
        process = start_warm(*words(tmp_path, *RLHF))
        directory = wait_for_step(tmp_path, step, process)
        assert directory.name.startswith(name)
        kill(trainer_of(directory))
        process.communicate(timeout=PATIENCE)
    launch(*words(tmp_path, *RLHF))
    for name in ("reward", "rloo"):
        assert "resuming from checkpoint-" in (stage(tmp_path, name) / "log.txt").read_text()
        first = next(path for path in stages(rlhf, f"{name}-*") if path.name == stage(tmp_path, name).name)
        assert weights(stage(tmp_path, name)) == weights(first)


def test_adapters_of_a_reward_model_are_merged_into_a_classifier(words: Words, tmp_path: Path) -> None:
    launch(*words(tmp_path, *RLHF, "tuning=lora", "reward.max_steps=2", "rloo.max_steps=2"))
    found = load_file(stage(tmp_path, "reward") / "model" / "model.safetensors")
    assert found["score.weight"].abs().sum() > 0 and not any("lora" in name for name in found)
    assert record(stage(tmp_path, "reward"))["first_loss"] == pytest.approx(LN2, abs=1e-6)
    AutoModelForCausalLM.from_pretrained(stage(tmp_path, "rloo") / "model")


def test_the_directory_of_a_stage_names_the_reward_model_in_it(
    words: Words, compose: Callable[..., Any], tiny_model: Path, tmp_path: Path
) -> None:
    """As its `model` does; RLOO asks it without a reward stage of its own."""
    directory, model = tmp_path / "reward-1", tmp_path / "reward-1" / "model"
    shutil.copytree(tiny_model, model)
    AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(model)
    (directory / "config.yaml").write_text("stage: reward\n")
    options = ["pipeline=rlhf", "pipelines.rlhf=[rloo]"]
    whole, inner = (asked_reward_model(compose(*options, f"rloo.reward_model={place}")) for place in (directory, model))
    assert whole == inner and whole and whole.path == str(model)
    assert asked_reward_model(compose("pipeline=dpo", f"rloo.reward_model={directory}")) is None, "nobody asks it"
    with pytest.raises(UserError, match=r"/nowhere does not exist: check rloo\.reward_model"):
        asked_reward_model(compose(*options, f"rloo.reward_model={tmp_path}/nowhere"))
    launch(*words(tmp_path / "runs", *options, "rloo.max_steps=1", f"rloo.reward_model={directory}"))
    assert record(stage(tmp_path / "runs", "rloo"))["reward_model"] == str(model)


@pytest.mark.parametrize(
    "pipeline, said",
    [
        ("pipelines.rlhf=[sft,rloo]", "rloo has no reward model: put reward before it"),
        ("pipelines.rlhf=[sft,reward] evaluate=true", "ends in a reward model"),
        ("rloo.reward_model=x", "would train a second one that nothing uses"),
    ],
)
def test_a_pipeline_that_makes_no_sense_is_refused(compose: Callable[..., Any], pipeline: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        refuse_useless(compose("pipeline=rlhf", *pipeline.split()))
