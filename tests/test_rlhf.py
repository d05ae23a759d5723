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
from launch.stages.digest import Start, plan_stage
from launch.stages.inputs import asked_reward_model
from recipes.config import Stage, UserError
from recipes.data.pairs import load_pairs, load_prompts, open_pairs
from recipes.rloo import ask
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
    alone = [model(torch.tensor([row["prompt_ids"] + row["chosen_ids"]])).logits for row in pairs]
    assert alone[0].shape == (1, 1), "one reward per dialogue"
    assert torch.cat(alone)[:, 0].tolist() == pytest.approx(chosen.tolist(), abs=1e-5), (
        "neither padding nor order counts"
    )


def test_rloo_is_rewarded_by_the_classifiers_own_logits(rlhf: Path) -> None:
    """Of each prompt with its response, the higher the better; TRL's reward function gets what the trainer has."""
    model = AutoModelForSequenceClassification.from_pretrained(stage(rlhf, "reward") / "model")
    asked = ask(load_classifier(str(stage(rlhf, "reward") / "model"), None, foreign=False))
    pairs: Any = load_pairs(Stage.load(stage(rlhf, "reward")).pairs)["train"]
    prompts, said = ([row[name] for row in pairs][:6] for name in ("prompt_ids", "chosen_ids"))
    with torch.no_grad():
        alone = [float(model(torch.tensor([a + b])).logits) for a, b in zip(prompts, said, strict=True)]
    assert asked(prompts, [""] * 6, said, None) == pytest.approx(alone, abs=1e-5) and len({*alone}) == 6


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


def test_a_reward_model_that_cannot_read_a_prompt_is_refused_before_anything_trains(
    words: Words, pairs_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A training row alone has what its template rejects; held-out rows are not asked about where none is evaluated."""
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    odd = {**rows[0], "prompt": [{"role": "system", "content": "Be brief."}, *rows[0]["prompt"]]}
    paths = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    reward = tmp_path / "reward"
    shutil.copytree(tiny_model, reward)
    AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(reward)
    refuses = "{% if m.role == 'system' %}{{ raise_exception('no system turns, please') }}{% endif %}"
    (reward / "chat_template.jinja").write_text(f"{{% for m in messages %}}{refuses}{{{{ m.content }}}}{{% endfor %}}")
    options = ["pipeline=rlhf", "pipelines.rlhf=[sft,rloo]", f"rloo.reward_model={reward}", "--check"]
    options += [f"dataset.path={paths[0]}", f"dataset.test_path={paths[1]}"]
    for place, status in ((0, 2), (1, 0)):
        for path, own in zip(paths, (rows[4:], rows[:4]), strict=True):
            given = [*own, odd] if path == paths[place] else own
            path.write_text("".join(json.dumps(row) + "\n" for row in given))
        printed = " ".join(launch(*words(tmp_path / f"runs-{place}", *options), status=status).split())
        said = f"rloo.reward_model={reward} cannot read the dialogue that ends with 'Where is Ashford?'"
        assert (said in printed and "(no system turns, please)" in printed) is (place == 0), printed
    assert not list(tmp_path.glob("**/log.txt"))


def test_one_directory_has_one_digest_however_it_is_spelled(
    compose: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people type stays what is digested: relative here, absolute elsewhere; a Hub id is no path."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    (here / "models" / "judge").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    spellings = {
        "models/judge": ["models/judge/", "./models/judge", "models/../models/judge", str(here / "models/judge")]
    }
    spellings |= {str(elsewhere): [f"{elsewhere}/", "../elsewhere"], "someone/judge@main": []}
    reward, digests = Start("p", None, "weights"), set()
    for usual, others in spellings.items():
        configs = [compose("pipeline=rlhf", f"rloo.reward_model='{name}'") for name in (usual, *others)]
        assert {config.options["rloo"]["reward_model"] for config in configs} == {usual}
        planned = [plan_stage(config, "rloo", Start("s", None, "s"), here, "f", reward) for config in configs]
        (digest,) = {stage.config["digest"] for stage in planned}
        digests.add(digest)
    assert len(digests) == len(spellings)


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
