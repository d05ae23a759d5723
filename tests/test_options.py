"""Options that would be ignored, crash after the first stage or choose on the test split: what is done about each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.config.checks import refuse_useless
from launch.config.idle import refuse_unused
from launch.config.schema import Config
from launch.config.splits import with_folds
from launch.forecast.budget import trainings
from launch.plan import plan
from launch.stages.digest import scientific
from recipes.config import UserError
from recipes.data.messages import out_of_order
from recipes.data.pairs import load_prompts
from recipes.training.merge import WRONG, main

Compose = Callable[..., Config]
CARD = ("model=phi-3-mini", "dataset=ultrafeedback", "hardware=1x24gb")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["orpo.fp16=true"], "its loss scale overflows by design"),
        (["dpo.sync_ref_model=true", "pipeline=dpo"], "no checkpoint has the reference model"),
        (["orpo.model_init_kwargs={use_cache:false}"], "the options of `model.`"),
        (["tuning=lora", "model.lora_target_modules=[q_proj,embed_tokens]", "model=qwen2.5-0.5b"], "are one matrix"),
        (["tuning=lora", "model.lora_target_modules=[qkv_proj,lm_head]", "pipeline=dpo", *CARD], "under dpo"),
    ],
)
def test_what_could_not_train_or_resume_is_refused(compose: Compose, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        refuse_useless(compose(*words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["orpo.gradient_checkpointing=true"], "set hardware.activation_checkpointing instead"),
        ([*CARD, "dataset.test_fraction=0.2"], "has a test split of its own"),
        (["launcher=local", "launcher.minutes=5"], "launcher=local does not read it, launcher=slurm does"),
        (["launcher=slurm", "launcher.devices=[0]"], "launcher=slurm does not read it, launcher=local does"),
    ],
)
def test_what_nothing_would_read_is_refused(compose: Compose, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        refuse_unused(compose(*words), words)
    refuse_unused(compose("launcher=local", "launcher.at_once=2"), ["launcher=local", "launcher.at_once=2"])


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
def test_a_rate_that_follows_evaluations_has_a_split_of_its_own_and_their_times_are_in_the_digest(
    compose: Compose, schedule: str
) -> None:
    often, rarely = (
        compose(f"orpo.lr_scheduler_type={schedule}", "orpo.eval_strategy=steps", f"orpo.eval_steps={steps}")
        for steps in (10, 50)
    )
    assert with_folds(often).dataset.validation_fraction == 0.1
    assert scientific(often.options["orpo"]) != scientific(rarely.options["orpo"])
    plain = [compose("orpo.eval_strategy=steps", f"orpo.eval_steps={steps}") for steps in (10, 50)]
    assert with_folds(plain[0]).dataset.validation_fraction is None
    assert scientific(plain[0].options["orpo"]) == scientific(plain[1].options["orpo"])


def test_trainings_are_counted_by_where_they_start(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    """The design trains SFT, and DPO and ORPO each from it and from the base model."""
    config = compose("pipeline=design")
    own = {name: config.of(name) for name in config.pipelines}
    assert sorted(map("".join, trainings(config, own))) == ["dpo", "orpo", "sft", "sftdpo", "sftorpo"]
    assert len(trainings(compose("pipeline=compare"), own)) == 3
    plan([*CARD, "pipeline=design", "judge=none"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "In all: 5 stages to train" in printed and "sft → dpo" in printed


def test_a_plan_with_trials_holds_out_what_they_are_chosen_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A tenth of the pairs, but no more than `test_rows`; its judge is trained, though one pipeline is compared."""
    found = []
    for words in (["pipeline=orpo", "evaluate=true"], ["pipeline=orpo", "tune=4"]):
        plan([*CARD, "dataset.train_rows=1000", *words])
        found.append(" ".join(capsys.readouterr().out.split()))
    assert "1,000 pairs to train on" in found[0] and "720 pairs to train on" in found[1]
    assert "reward (judge)" in found[1] and "reward (judge)" not in found[0]
    plan([*CARD, "pipeline=orpo", "evaluate=true", "judge=none", "dataset.validation_fraction=0.1"])
    assert "60,6" in capsys.readouterr().out, "500 of UltraFeedback's 61,135 pairs"


def test_a_prompt_ends_with_the_users_turn() -> None:
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    assert out_of_order([user, assistant]) and not out_of_order([user, assistant, user])


def test_rlhf_too_is_evaluated_on_the_validation_split(
    compose: Compose, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset, DatasetDict

    rows: dict[Any, Any] = {
        split: Dataset.from_dict({"row": [0], "prompt": [[{"role": "user", "content": split}]], "prompt_ids": [[1]]})
        for split in ("train", "test", "validation")
    }
    DatasetDict(rows).save_to_disk(str(tmp_path / "pairs"))
    assert load_prompts(tmp_path / "pairs")["test"]["messages"][0][0]["content"] == "validation"


def test_a_merge_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> Any:
        raise UserError(WRONG["base"].format(0.5))

    monkeypatch.setattr("recipes.training.merge.merge", fail)
    assert main(tmp_path) == 2
    assert "is not the base that the adapter was trained on" in (tmp_path / "error.txt").read_text()
