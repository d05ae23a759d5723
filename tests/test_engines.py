"""Packed SFT and DPO are stock TRL's: loss, gradients, steps, metrics and reference model; ORPO: test_packed.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, assert_same, rows_of
from trainers import FIVE_STEPS, METHODS, Make, gradients, maker, move_away, train_alike

from recipes.config import UserError
from recipes.training.cost import count_tokens

LN2 = 0.6931471805599453
# Rewards are differences of summed log-probs, some of them float32: of about 100, whose last digit is 8e-6, times beta.
FLOAT32 = 1e-5
LEFT_OUT = ("logits/", "entropy", "mean_token_accuracy", "num_tokens")  # they need every logit, or are the meter's


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer."""
    return maker(tiny_model, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("span", [True, False])
def test_sfts_loss_and_gradients_are_stock_trls(make: Make, family: str, span: bool) -> None:
    rows = rows_of(6)
    found, expected = (
        gradients(make("sft", engine, rows, family, completion_only_loss=span)) for engine in ("packed", "stock")
    )
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert_same(found[1], expected[1], 1e-4)


@pytest.mark.parametrize("family, adapters", [*((family, False) for family in FAMILIES), ("Llama", True)])
@pytest.mark.parametrize("before", [True, False])
def test_dpos_loss_and_gradients_are_stock_trls(make: Make, family: str, adapters: bool, before: bool) -> None:
    """Of a policy that has moved away from its reference, so that every pair weighs differently."""
    results = []
    for engine in ("packed", "stock"):
        trainer = make("dpo", engine, rows_of(6), family, adapters, precompute_ref_log_probs=before, beta=0.3)
        move_away(trainer)
        results.append(gradients(trainer))
    (loss, found), (truth, expected) = results
    assert loss == pytest.approx(truth, rel=1e-5) and abs(truth - LN2) > 1e-3
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_five_steps_give_stock_trls_weights_and_metrics(make: Make, method: str) -> None:
    steps = dict(FIVE_STEPS)
    # of a reference scored beforehand the first rewards are rounding, and so is which of them is larger
    steps |= {"completion_only_loss": True} if method == "sft" else {"beta": 0.3, "precompute_ref_log_probs": False}
    stock, packed = (make(method, engine, rows_of(20), **steps) for engine in ("stock", "packed"))
    train_alike(packed, stock)
    for found, expected in zip(packed.state.log_history[:5], stock.state.log_history[:5], strict=True):
        extra = {"nll_loss"} if method == "sft" else set()
        assert found.keys() - extra == {name for name in expected if not name.startswith(LEFT_OUT)}
        assert {name: found[name] for name in found.keys() & expected.keys()} == {
            name: pytest.approx(value, rel=1e-4, abs=FLOAT32) for name, value in expected.items() if name in found
        }


@pytest.mark.parametrize("method", METHODS)
def test_an_updates_gradient_does_not_depend_on_its_split(make: Make, method: str) -> None:
    """Eleven pairs are updates of eight and of three; stock TRL's DPO would weigh the last update's pairs otherwise."""
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd"}
    found = []
    for size in (8, 1):
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make(method, "packed", rows_of(11), **common, **parts)
        trainer.train()
        assert trainer.state.global_step == 4
        found.append(dict(trainer.model.named_parameters()))
    for name, weight in found[0].items():
        assert torch.allclose(weight, found[1][name], rtol=0, atol=1e-9), name


def test_the_reference_is_scored_once_before_the_training_where_all_pairs_are_read(make: Make) -> None:
    updates = {"per_device_train_batch_size": 3}
    whole, part = (make("dpo", "packed", rows_of(9), max_steps=steps, **updates) for steps in (3, 2))
    assert whole.ref_model is None and "ref_chosen_logps" in whole.train_dataset.column_names
    assert whole.reference_seconds > 0
    assert part.ref_model is not None and "ref_chosen_logps" not in part.train_dataset.column_names
    assert part.reference_seconds == 0
    for trainer in (whole, part):
        assert gradients(trainer)[0] == pytest.approx(LN2, abs=FLOAT32)


def test_dpo_is_evaluated_against_the_reference_whatever_the_batch_size(make: Make) -> None:
    held_out, found = rows_of(7, seed=1), []
    for size in (1, 7):
        trainer = make("dpo", "packed", rows_of(4), per_device_eval_batch_size=size, precompute_ref_log_probs=True)
        found.append(
            {name: value for name, value in trainer.evaluate(held_out).items() if "/" in name or "loss" in name}
        )
    assert found[0] == pytest.approx(found[1]) and found[0]["eval_loss"] == pytest.approx(LN2, abs=FLOAT32)


def test_dpo_is_evaluated_against_its_start_when_the_policy_has_moved(make: Make) -> None:
    """With its log-probs scored before, or in each step: stock TRL's loss, no longer ln 2."""
    held_out, found = rows_of(6, seed=1), {}
    for engine, before in (("stock", False), ("packed", False), ("packed", True)):
        options = {"eval_strategy": "steps", "per_device_eval_batch_size": 6, "precompute_ref_log_probs": before}
        trainer = make("dpo", engine, rows_of(4), eval_dataset=held_out, **options)
        move_away(trainer)
        found[engine, before] = trainer.evaluate()["eval_loss"]
    stock = found.pop(("stock", False))
    assert abs(stock - LN2) > 1e-3
    assert [*found.values()] == pytest.approx([stock] * 2, rel=1e-5)


def test_packed_tokens_are_counted_without_padding(make: Make) -> None:
    rows: Any = rows_of(6)
    lengths = [(len(row["prompt_ids"]), len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
    sft, dpo = (count_tokens(make(method, "packed", rows).data_collator(list(rows))) for method in METHODS)
    assert sft == (sum(prompt + chosen for prompt, chosen, _ in lengths),) * 2
    assert dpo == (sum(2 * prompt + chosen + rejected for prompt, chosen, rejected in lengths), sum(map(sum, lengths)))


def test_the_reference_has_no_dropout_and_a_resumed_stage_reads_it(make: Make, tmp_path: Path) -> None:
    """A fresh adapter says that it trains while its base does not: each part gets back the mode it had."""
    dropping: dict[str, Any] = {"disable_dropout": False, "max_steps": -1, "attention_dropout": 0.5}
    trainer = make("dpo", "packed", rows_of(6), adapters=True, **dropping)
    again = [pair.reference for pair in trainer.data_collator(list(trainer.train_dataset))["pairs"]]
    found = trainer.reference_of(trainer.data_collator(list(trainer.train_dataset))["pairs"], 6)
    assert [list(found[place]) for place in range(6)] == [pytest.approx(sums, abs=1e-4) for sums in again]
    (kept,) = tmp_path.rglob("reference-*.json")
    kept.write_text(kept.read_text().replace(str(again[0][0]), "1.5"))
    resumed = make("dpo", "packed", rows_of(6), adapters=True, output_dir=str(kept.parent), **dropping)
    assert resumed.train_dataset[0]["ref_chosen_logps"] == 1.5 and resumed.reference_seconds > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_mixtures_auxiliary_loss_is_refused_as_trl_would_train_it(make: Make, method: str) -> None:
    """TRL adds it to SFT and DPO whatever the model's own switch says."""
    with pytest.raises(UserError, match="auxiliary loss"):
        make(method, "packed", rows_of(4), "Mixtral")
