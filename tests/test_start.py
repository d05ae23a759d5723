"""Before anything trains: what would fail or do nothing later is refused, in one line."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from door import launch, short

from eval.results.variance import foreseen
from launch.config.first import first_line
from launch.config.help import GROUPS
from launch.config.idle import refuse_unused
from launch.config.schema import Config
from launch.forecast.ahead import FEWEST, duration, only_warming_up, too_few_prompts
from launch.stages.digest import Planned
from launch.stages.inputs import check_cache
from launch.stages.rehearsal import outline, rehearse_all
from recipes.config import UserError, read_config
from recipes.system import processes
from recipes.system.processes import forget_launchers
from recipes.training.arguments import keep_the_models_loss
from recipes.training.rehearsal import evaluated

Words = Callable[..., list[str]]
Compose = Callable[..., Config]

UNUSABLE = {
    "dpo.lr_scheduler_type=warmup_stable_decay": "num_decay_steps",
    "dpo.lr_scheduler_type=polynomial dpo.lr_scheduler_kwargs={lr_end:1}": "lr_end",
    "sft.lr_scheduler_type=reduce_lr_on_plateau": "requires an eval strategy",
    "orpo.report_to=tensorboard": "tensorboard",
    "sft.report_to=wandbb": "wandbb",
    "orpo.optim=galore_adamww": "galore_adamww",
    "dpo.optim=galore_adamw dpo.optim_target_modules=[attn]": "galore",
    "orpo.use_liger_kernel=true orpo.liger_kernel_config={fused_linear_cross_entropy:true}": "need the logits",
    "orpo.metric_for_best_model=eval_losss orpo.load_best_model_at_end=true orpo.eval_strategy=steps "
    "orpo.eval_steps=0.1": "no evaluation measures it",
}


@pytest.mark.parametrize("words, said", UNUSABLE.items())
def test_what_a_later_stage_could_not_build_is_refused(compose: Compose, words: str, said: str) -> None:
    config = compose("hardware=cpu", "pipeline=compare", *words.split())
    option = words.split("=")[0]
    with pytest.raises(UserError) as found:
        rehearse_all(outline(config, None), None)
    assert said in str(found.value) and option.split(".")[0] in str(found.value) and "\n" not in str(found.value)


def test_liger_replaces_no_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Transformers' default it would, and the packed engine's log-probs are computed in it."""
    args = SimpleNamespace(liger_kernel_config={"rope": False})
    monkeypatch.setattr("recipes.training.arguments.is_liger_kernel_available", lambda: False)
    with pytest.raises(UserError, match="pip install liger-kernel"):
        keep_the_models_loss(args, "orpo")
    monkeypatch.setattr("recipes.training.arguments.is_liger_kernel_available", lambda: True)
    keep_the_models_loss(args, "orpo")
    assert args.liger_kernel_config == {"rope": False, "fused_linear_cross_entropy": False, "cross_entropy": False}


def test_every_method_can_be_built_as_it_is(compose: Compose) -> None:
    config = compose("hardware=cpu", "pipeline=all")
    stages = outline(config, None)
    assert [stage.config["stage"] for stage in stages] == ["sft", "dpo", "orpo", "reward", "rloo"]
    rehearse_all(stages, None)


def test_an_evaluation_measures_what_the_trainer_logs() -> None:
    def of(stage: str, **options: Any) -> set[str]:
        return evaluated(stage, SimpleNamespace(**({"engine": "packed"} | options)))

    assert {"loss", "rewards_scaled/margins", "logps_mean/chosen", "nll_loss"} <= of("orpo", nll_span="full")
    assert {"loss", "rewards_reference/margins", "logps_sum/chosen"} <= of("dpo", loss_type=["sigmoid"])
    assert "nll_loss" in of("dpo", loss_type=["sft"]) and "nll_loss" not in of("dpo", loss_type=["sigmoid"])
    assert "rewards_scaled/margins" not in of("orpo", engine="stock", nll_span="full")
    assert {"loss", "accuracy", "margin", "max_reward"} <= of("reward")


IDLE = [
    "orpo.max_completion_length=4",
    "sft.truncation_mode=keep_end",
    "orpo.eval_steps=3",
    "dpo.metric_for_best_model=loss",
    "orpo.num_train_epochs=3 orpo.max_steps=2",
    "orpo.lr_scheduler_type=constant orpo.warmup_steps=3",
    "model.lora_r=3",
    "launcher.minutes=3",
    "dataset.judge_fraction=0.1",
    "rloo.beta=0.1",
]


@pytest.mark.parametrize("words", IDLE)
def test_an_option_that_would_do_nothing_is_refused(compose: Compose, words: str) -> None:
    config = compose("hardware=cpu", "pipeline=compare", "dataset=pocket", *words.split())
    with pytest.raises(UserError, match="would do nothing"):
        refuse_unused(config, words.split())


USED = [
    "orpo.eval_steps=3 orpo.eval_strategy=steps",
    "orpo.metric_for_best_model=loss orpo.load_best_model_at_end=true orpo.eval_strategy=steps",
    "orpo.max_steps=2",
    "model.lora_r=3 tuning=lora",
    "launcher=local launcher.at_once=2",
    "+orpo.lr_scheduler_kwargs.min_lr_rate=0.1 orpo.lr_scheduler_type=cosine_with_min_lr",
    "orpo={beta:0.2}",
]


@pytest.mark.parametrize("words", USED)
def test_an_option_that_is_read_is_not(compose: Compose, words: str) -> None:
    refuse_unused(compose("hardware=cpu", "pipeline=compare", *words.split()), words.split())


def test_a_check_trains_nothing_and_another_launchers_variables_do_not_hang_it(words: Words, tmp_path: Path) -> None:
    left = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    printed = launch(*words(tmp_path, "pipeline=dpo", *short("sft", "dpo")), "--check", status=0, **left)
    assert "WORLD_SIZE=2" in printed and "not passed on" in printed
    assert printed.count("would be trained") == 2 and "nothing was trained" in printed
    assert not list(tmp_path.glob("**/log.txt")) and not list(tmp_path.glob("_sessions/*"))
    said = launch(*words(tmp_path, "pipeline=dpo", "dpo.lr_scheduler_type=warmup_stable_decay"), status=2)
    assert "num_decay_steps" in said and not list(tmp_path.glob("**/log.txt"))


def test_a_check_leaves_a_session_of_that_name_alone(words: Words, tmp_path: Path) -> None:
    kept = tmp_path / "_sessions" / "mine" / "votes" / "ada.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("a vote")
    job = tmp_path / "_sessions" / "mine" / "0" / "job.json"
    job.parent.mkdir()
    job.write_text("{}")
    launch(*words(tmp_path, "pipeline=orpo", *short("orpo"), "session=mine"), "--check")
    assert kept.read_text() == "a vote" and job.read_text() == "{}"
    assert [path.name for path in (tmp_path / "_sessions").iterdir()] == ["mine"]


def test_variables_of_other_launchers_are_forgotten_and_torchrun_itself_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert forget_launchers() is None
    for name in ("PMI_SIZE", "ACCELERATE_MIXED_PRECISION", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    said = forget_launchers()
    assert said and "PMI_SIZE=2" in said and forget_launchers() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "started_by", lambda: "torchrun")
    with pytest.raises(UserError, match="torchrun started this command"):
        forget_launchers()


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_DATASETS_CACHE", "HOME"])
def test_a_cache_that_cannot_be_written_is_named(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/proc/1/nope")
    with pytest.raises(UserError, match=rf"^{variable}=/proc/1/nope: .*HF_HOME"):
        check_cache(compose("dataset=file", "dataset.path=pairs.jsonl"))
    check_cache(compose("dataset=pocket"))


def test_the_first_line_says_what_will_run() -> None:
    words = ["--multirun", "model=pocket", "pipeline=compare"]
    assert first_line(words) == "pocket: sft; sft → dpo; orpo (3 stages)"
    assert first_line([*words, "dataset=file", "seed=0,1", "orpo.beta=0.1,0.2"]) == (
        "pocket on file: sft; sft → dpo; orpo; reward, the judge (4 stages, for each of 4 settings)"
    )
    assert first_line(["pipeline=orpo"]) == "pocket: orpo (1 stage)"
    forgotten = "pocket (the embedded toy model; set MODEL= for yours) on file: orpo (1 stage)"
    assert first_line(["pipeline=orpo", "dataset=file"]) == forgotten
    judged = first_line([*words, "dataset=file", "judge=none"])
    assert judged == "pocket on file: sft; sft → dpo; orpo (3 stages)"
    assert str(first_line([*words, "judge=trained"])).endswith("orpo; reward, the judge (4 stages)")
    for other, trains in (
        ([*words, "dataset=file", "evaluate=false"], False),
        ([*words, "dataset=pocket-notes.jsonl"], True),
        (["model=qwen2.5-0.5b", "pipeline=orpo", "evaluate=true", "orpo.beta=0.1,0.2"], True),
        (["model=qwen2.5-0.5b", "pipeline=orpo", "evaluate=true", "seed=0,1"], False),
        (["model=qwen2.5-0.5b", "pipeline=orpo", "evaluate=true", "eval_split=validation"], True),
        (["model=qwen2.5-0.5b", "pipeline=orpo", "evaluate=true", "tuning=lora", "model.lora_r=8,16"], False),
    ):
        assert ("the judge" in str(first_line(other))) == trains
    assert str(first_line(["model=pocket-small,pocket", "pipeline=compare"])).endswith(
        "orpo (3 stages, for each of 2 settings)"
    )
    assert "the judge" in str(first_line(["model=pocket,qwen2.5-0.5b", "pipeline=compare"]))
    for swept in ("orpo.beta=range(0.1,0.5,0.1)", "seed=range(5)"):
        assert "for each of several settings" in str(first_line([*words, swept]))
    assert "100 settings" in str(first_line([*words, f"seed={','.join(map(str, range(100)))}"]))
    for other in (["pipeline=nonsense"], ["--cfg", "job"], ["experiment=orpo-paper/phi-2"], ["pipelines.x=[sft]"]):
        assert first_line(other) is None


def test_what_help_names_exists(compose: Compose) -> None:
    options = {option for group in GROUPS.values() for option in group if option not in ("tune=8", "seed=0,1,2")}
    assert 20 <= len(options) <= 30
    for option in options:
        given = ["hardware=cpu", "dataset=pocket", option]
        if option.startswith(("hardware=", "dataset=")):
            given = [option] if option != "dataset=pairs.jsonl" else ["dataset=file", "dataset.path=pairs.jsonl"]
        compose(*given)


def test_times_are_said_as_people_say_them() -> None:
    said = {0.0: "1 s", 12 / 3600: "12 s", 90 / 3600: "90 s", 5 / 60: "5.0 min", 34 / 60: "34 min", 3.4: "3.4 h"}
    assert {hours: duration(hours) for hours in said} == said
    assert duration(60) == "2.5 days" and duration(1000) == "42 days"


def test_a_stage_that_is_none_leads_to_those_that_begin_so(tmp_path: Path) -> None:
    (tmp_path / "orpo-09ddf7bb").mkdir()
    (tmp_path / "orpo-09ddf7bb" / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"did you mean .*/orpo-09ddf7bb"):
        read_config(tmp_path / "orpo")


def test_a_training_that_is_all_warm_up_is_told() -> None:
    """One optimizer step at a warm-up of a tenth has a learning rate of 0; the judge's pairs are its own."""

    def stage(name: str, **options: Any) -> Planned:
        given = {"max_steps": -1, "num_train_epochs": 1, "warmup_steps": 0.1, "lr_scheduler_type": "cosine", **options}
        return Planned(Path(name), {"stage": name, "batch_size": 32, "options": given})

    judge = stage("reward")
    judge.config["split"] = "judge"
    told = list(only_warming_up([judge, stage("sft"), stage("orpo", warmup_steps=9)], {"train": 90, "judge": 23}))
    assert [line.partition(":")[0] for line in told] == ["reward", "orpo"]
    assert "all 1 of its optimizer steps" in told[0] and "add reward.warmup_steps=0" in told[0]
    assert not list(only_warming_up([stage("sft", lr_scheduler_type="constant")], {"train": 5}))


def test_too_few_held_out_prompts_are_told_before_anything_trains(compose: Callable[..., Config]) -> None:
    """Of two pipelines or more, where the responses are evaluated."""
    config = compose("pipeline=compare", "evaluate=true", "eval_prompts=200")
    (told,) = too_few_prompts(config, {"train": 46, "test": 2})
    assert told.startswith("2 held-out prompts are too few to distinguish two") and "dataset.test_fraction=0.3" in told
    (told,) = too_few_prompts(compose("pipeline=compare", "evaluate=true", "eval_prompts=6"), {"test": 200})
    assert told.endswith("raise eval_prompts=")
    assert foreseen(1, FEWEST - 1, 1, 0.05 / 3) is None and foreseen(1, FEWEST, 1, 0.05 / 3)
    for words in (["pipeline=orpo"], ["pipeline=compare", "evaluate=false"]):
        assert not list(too_few_prompts(compose("evaluate=true", *words), {"test": 2}))
    assert not list(too_few_prompts(config, {"test": FEWEST}))
