"""Matched budgets agree to half an optimizer step, the rest is reported, and nothing is trained twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from door import launch, record, stages

from launch.config.schema import Config
from launch.forecast.budget import match, refuse_budget, spends, with_updates
from launch.forecast.cost import work
from launch.forecast.tokens import Tokens
from launch.plan import main
from recipes.config import UserError, read_json

Compose = Callable[..., Config]
Words = Callable[..., list[str]]
TOKENS = Tokens(6410, 100, 200, 150, "made")  # the last update of an epoch is a small one
CARD = ("model=phi-3-mini", "hardware=1x24gb", "tuning=lora", "pipeline=compare", "batch_size=64", "judge=none")


@pytest.fixture(scope="module")
def config(compose: Compose) -> Config:
    """Three pipelines of a 3.8B model with adapters."""
    return compose(*CARD, "orpo.num_train_epochs=3", "budget=flops")


@pytest.mark.parametrize("kind", ["pairs", "tokens", "flops"])
def test_the_last_stages_spend_what_is_left_to_half_an_update(config: Config, kind: str) -> None:
    for of in ("dpo", "orpo"):
        config = replace(config, budget=kind, budget_of=of)
        configs, budget = match(config, TOKENS)
        assert budget and configs[of] is config
        for name, (*earlier, last) in config.pipelines.items():
            assert all(configs[name].options[stage] is config.options[stage] for stage in earlier), (
                "earlier stages are shared"
            )
            one, two = (spends(with_updates(config, last, updates), last, TOKENS) for updates in (1, 2))
            spent = sum(spends(configs[name], stage, TOKENS) for stage in (*earlier, last))
            assert abs(spent - budget.amount) <= (two - one) / 2 * (1 + 1e-9)


def test_an_epochs_last_update_has_the_pairs_that_are_left(config: Config) -> None:
    done = [work(with_updates(config, "orpo", updates), "orpo", TOKENS) for updates in (1, 100, 101, 102, 303)]
    assert [found.pairs for found in done] == [64, 6400, 6410, 6474, 3 * 6410]
    assert done[2].tokens == 6410 * (2 * 100 + 200 + 150) and done[2].computed == 6410 * (100 + 200 + 150)
    assert work(config, "orpo", TOKENS) == done[-1]


def test_an_equal_number_of_updates_is_the_same_training(config: Config) -> None:
    two = config.options["orpo"] | {"num_train_epochs": 2}
    config = replace(config, options=config.options | {"orpo": two}, budget="pairs")
    assert match(config, TOKENS)[0]["orpo"] is config, "as many pairs as an epoch of SFT and one of DPO"


PADDED = {"sft": {"engine": "packed"}, "dpo": {"engine": "stock"}}
RLHF = {"dpo": ["sft", "dpo"], "rlhf": ["sft", "reward", "rloo"]}
REFUSED = [
    ({"budget": "epochs"}, "", "use pairs, tokens, flops, or null"),
    ({"budget": None, "budget_of": "dpo"}, "", "needs a budget: add budget=flops"),
    ({"budget_of": "rlhf"}, "", "use one of this job's pipelines, sft, dpo, orpo"),
    ({"pipelines": {"orpo": ["orpo"]}}, "", "trains only orpo"),
    ({"pipelines": RLHF}, "", "how much rloo samples is unknown before it trains: remove rlhf"),
    ({"options": PADDED}, "", "how much dpo pads is unknown before it trains: use dpo.engine=packed"),
    ({"pipelines": {"dpo": ["sft", "dpo"], "more": ["orpo", "orpo"]}}, "", "pipelines.more has orpo twice"),
    ({}, "orpo.max_steps=9", "budget=flops sets the optimizer steps of orpo"),
    ({}, "orpo.num_train_epochs=9", "budget=flops sets the optimizer steps of orpo"),
]


@pytest.mark.parametrize(("changed", "word", "said"), REFUSED)
def test_a_budget_that_cannot_be_held_is_refused(config: Config, changed: Any, word: str, said: str) -> None:
    with pytest.raises(UserError) as found:
        refuse_budget(replace(config, **changed), [word])
    assert said in str(found.value) and "\n" not in str(found.value)


def test_a_plan_shows_the_matched_updates_and_refuses_as_a_launch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CARD, "budget=pairs", "dpo.max_steps=9", "dataset.estimate.rows=640"]) == 0  # the setter's is free
    shown = capsys.readouterr().out
    assert "of dpo; last stages: sft 19 steps, orpo 19 steps" in shown, "10 of SFT and 9 of DPO"
    assert main([*CARD, "budget=pairs", "orpo.max_steps=9"]) == 2
    assert capsys.readouterr().out.startswith("error: orpo.max_steps=9 would do nothing")


def test_too_small_a_budget_is_refused(config: Config) -> None:
    config = replace(with_updates(config, "orpo", 1), budget_of="orpo")
    with pytest.raises(UserError, match=r"pipelines.dpo would use up .* FLOPs of orpo before its last stage"):
        match(config, TOKENS)


@pytest.fixture(scope="module")
def matched(words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[dict[str, Any]]]:
    """A comparison under two budgets, typed twice: what was printed, the session, and each job both times."""
    runs = tmp_path_factory.mktemp("matched")
    options = [
        "pipeline=compare",
        "~pipelines.sft",
        "eval_prompts=2",
        "judge=none",
        "budget=flops,pairs",
        "session=both",
    ]
    session, printed, jobs = runs / "_sessions" / "both", "", []
    for _ in range(2):
        printed += launch("-m", *words(runs, *options))
        jobs.append([read_json(session / number / "job.json") for number in ("0", "1")])
    return printed, session, [jobs[time][number] for number in range(2) for time in range(2)]


def test_what_was_trained_spent_alike(matched: tuple[str, Path, list[dict[str, Any]]]) -> None:
    """By the records; half an update, and what the pairs of a part of an epoch differ from the mean."""
    _, _, (flops, _, pairs, _) = matched
    spent = {name: [record(Path(stage)) for stage in directories] for name, directories in flops["pipelines"].items()}
    one, two = spent["orpo"][0]["flops"], sum(found["flops"] for found in spent["dpo"])
    assert flops["setting"] == {"budget": "flops"} and pairs["setting"] == {"budget": "pairs"}
    assert two == pytest.approx(flops["budget"]["amount"], rel=1e-9), "whole epochs are forecast exactly"
    assert abs(one - two) < one / spent["orpo"][0]["updates"]
    amount = sum(record(Path(stage))["pairs"] for stage in pairs["pipelines"]["dpo"])
    assert pairs["budget"] == {"held": "pairs", "of": "dpo", "amount": amount}
    assert pairs["pipelines"]["dpo"] == flops["pipelines"]["dpo"]


def test_the_same_command_trains_nothing_again(matched: tuple[str, Path, list[dict[str, Any]]]) -> None:
    printed, session, jobs = matched
    assert jobs[0]["pipelines"] == jobs[1]["pipelines"] and jobs[2]["pipelines"] == jobs[3]["pipelines"]
    assert printed.count("started; log: ") == len(stages(session.parent.parent)) <= 4


def test_the_table_says_what_was_held_equal(matched: tuple[str, Path, list[dict[str, Any]]]) -> None:
    text = (matched[1] / "table.md").read_text()
    assert "Matched at budget=flops: FLOPs, at the" in text and "Matched at budget=pairs: pairs read" in text
    found = record(Path(matched[2][0]["pipelines"]["orpo"][0]))
    assert f"ORPO {found['pairs']:,} pairs read, {found['tokens']:,} tokens, {found['device_seconds']:,.0f}" in text
    assert "Nothing was matched" not in text
