"""The packed reward model: its loss in float64, and stock TRL's loss, gradients, steps and metrics on the same ids."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from families import FAMILIES, GROUPED, assert_same, classifier_of, rows_of
from trainers import FIVE_STEPS, Make, gradients, maker, train_alike

from recipes.config import UserError
from recipes.engine.metrics import Extremes
from recipes.engine.self_check import add_checked_rewards
from recipes.reward import RewardConfig, reward_loss
from recipes.training.checks import check_first_loss

CENTER = 0.05
LEFT_OUT = {"num_tokens"}  # the meter's


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer."""
    return maker(tiny_model, tmp_path)


@pytest.mark.parametrize("center", [None, CENTER])
def test_the_loss_is_its_equation(center: float | None) -> None:
    chosen, rejected = np.random.default_rng(0).normal(0, 4, (2, 50))
    found = reward_loss(torch.tensor(chosen), torch.tensor(rejected), center)
    assert found.preference is not None and found.nll is None
    expected = [
        math.log(1 + math.exp(bad - good)) + (center or 0.0) * (good + bad) ** 2
        for good, bad in zip(chosen, rejected, strict=True)
    ]
    assert found.preference.tolist() == pytest.approx(expected, rel=1e-9)
    assert found.metrics["accuracy"].mean().item() == np.mean(chosen > rejected)


@pytest.mark.parametrize("center", [None, CENTER])
@pytest.mark.parametrize("family, adapters", [*((family, False) for family in FAMILIES), ("Llama", True)])
def test_loss_and_gradients_are_stock_trls(make: Make, family: str, adapters: bool, center: float | None) -> None:
    found, expected = (
        gradients(make("reward", engine, rows_of(6), family, adapters, center_rewards_coefficient=center))
        for engine in ("packed", "stock")
    )
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert_same(found[1], expected[1], 1e-4)
    assert any("score" in name and "original" not in name for name in found[1]), "the head learns, with adapters too"


@pytest.mark.parametrize("center", [None, CENTER])
def test_five_steps_give_stock_trls_weights_and_metrics(make: Make, center: float | None) -> None:
    stock, packed = (
        make("reward", engine, rows_of(20), center_rewards_coefficient=center, **FIVE_STEPS)
        for engine in ("stock", "packed")
    )
    train_alike(packed, stock)
    for found, expected in zip(packed.state.log_history[:5], stock.state.log_history[:5], strict=True):
        assert found.keys() == expected.keys() - LEFT_OUT and {"accuracy", "margin", "min_reward"} <= found.keys()
        assert found == {name: pytest.approx(expected[name], rel=1e-4, abs=1e-6) for name in found}


def test_an_interval_of_steps_logs_trls_means_of_their_smallest_and_largest_rewards(make: Make) -> None:
    steps = {"max_steps": 4, "per_device_train_batch_size": 5, "learning_rate": 1e-3, "logging_steps": 4}
    found, expected = (make("reward", engine, rows_of(20), **steps) for engine in ("packed", "stock"))
    for trainer in (found, expected):
        trainer.train()
    ours, theirs = found.state.log_history[0], expected.state.log_history[0]
    assert ours == {name: pytest.approx(theirs[name], rel=1e-4, abs=1e-6) for name in theirs.keys() - LEFT_OUT}


@pytest.mark.parametrize("split", [2, 1])
def test_an_updates_gradient_and_metrics_do_not_depend_on_its_split(make: Make, split: int) -> None:
    """Eleven pairs are updates of four, four and three."""
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd"}
    weights, logs = [], []
    for size in (4, split):
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4 // size}
        trainer = make("reward", "packed", rows_of(11), center_rewards_coefficient=CENTER, **common, **parts)
        trainer.train()
        weights.append(dict(trainer.model.named_parameters()))
        logs.append([log for log in trainer.state.log_history if "loss" in log])
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], rtol=0, atol=1e-9), name
    assert len(logs[0]) == 6
    for one, other in zip(*logs, strict=True):
        assert one | {"epoch": 0} == pytest.approx(other | {"epoch": 0}, rel=1e-6)  # which counts micro-batches


def test_the_held_out_loss_and_metrics_are_trls_whatever_the_batch_size(make: Make) -> None:
    rows, found = rows_of(7), []
    for size in (1, 3, 7):
        trainer = make("reward", "packed", rows, per_device_eval_batch_size=size, eval_strategy="no")
        found.append(trainer.evaluate(rows))
    stock = make("reward", "stock", rows, per_device_eval_batch_size=7)
    stock.evaluate(stock.train_dataset)
    expected = stock.state.log_history[-1]
    names = {f"eval_{name}" for name in ("loss", "accuracy", "margin", "min_reward", "mean_reward", "max_reward")}
    for metrics in found:
        assert {name: metrics[name] for name in names} == {
            name: pytest.approx(expected[name], rel=1e-5) for name in names
        }


def test_responses_are_scored_where_transformers_scores_them_if_they_end_in_padding(make: Make) -> None:
    """As where a profile's pad token is a stop token; the tokens before the end are scored then."""
    rows = Dataset.from_list(
        [
            {"prompt_ids": [5, 0, 6], "chosen_ids": [7, 0, 8, 0], "rejected_ids": [9, 0, 0]},
            {"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [0, 9, 8]},
        ]
    )
    packed, stock = (make("reward", engine, rows) for engine in ("packed", "stock"))
    assert packed.processing_class.pad_token_id == stock.model.config.pad_token_id == 0
    found, expected = gradients(packed), gradients(stock)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert_same(found[1], expected[1], 1e-4)


def test_rewards_are_not_rounded_to_bf16_under_autocast(make: Make) -> None:
    trainer = make("reward", "packed", rows_of(5))
    trainer.model.float()
    batch, _ = trainer.get_batch_samples(iter([trainer.data_collator(list(trainer.train_dataset))]), 1, "cpu")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rewards = trainer.model(**batch[0]["batch"].model_inputs())
    assert rewards.dtype == torch.float32 and (rewards != rewards.bfloat16()).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_of_zeros_hides_nothing_from_the_check(family: str) -> None:
    """Positions that a model ignores would be told, though every reward is zero before the training."""
    model = classifier_of(family, torch.float32)
    model.score.weight.data.zero_()
    add_checked_rewards(model, half=False)
    assert not model.score._forward_hooks and not model.score.weight.any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "family, shape, reason",
    [
        ("Bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}, "reward.engine=stock"),  # ALiBi: positions by mask
        ("Gemma2", {**GROUPED, "head_dim": 16}, None),
        ("GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "pad_token_id": 0}, None),
        ("Mixtral", {**GROUPED, "num_local_experts": 4, "output_router_logits": True}, None),  # the loss is an LM's
    ],
)
def test_what_cannot_be_packed_is_refused_with_a_reason(family: str, shape: dict[str, Any], reason: str | None) -> None:
    config = getattr(transformers, f"{family}Config")(**{"vocab_size": 97, **shape}, num_labels=1)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.score.weight.data.zero_()
    if reason is None:
        return add_checked_rewards(model, half=False)
    with pytest.raises(UserError, match=reason) as error:
        add_checked_rewards(model, half=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"engine": "fast"}, "engine is 'fast': use packed or stock"),
        ({"chat_template_path": "x"}, "chat_template_path=x needs engine=stock"),
        ({"eos_token": "x"}, "eos_token=x needs engine=stock"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


def test_a_first_loss_other_than_ln_2_stops_the_training(tmp_path: Path) -> None:
    args = RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, center_rewards_coefficient=CENTER)
    check_first_loss("reward", args, math.log(2), exact=True)
    with pytest.raises(UserError, match=r"RM's first loss is 0\.7200, not 0\.6931: its head does not start at zero"):
        check_first_loss("reward", args, 0.72, exact=True)


def test_extremes_are_of_steps_and_of_pairs_that_count() -> None:
    """Two processes of the same two steps, and a pair of zero weight that would be the largest."""
    found, ones = Extremes(), torch.ones(2)
    assert found.take(lambda own: own) is None
    for values, weights in (([[1.0, 9.0], [2.0, -9.0]], torch.tensor([1.0, 0.0])), ([[3.0, 4.0], [5.0, 6.0]], ones)):
        found.begin_step()
        found.add(torch.tensor(values), weights)
    other = torch.tensor([[0.0, 0.0], [-7.0, 10.0]])  # minus the smallest, and the largest
    assert found.take(lambda own: torch.cat([own, other])) == ((0.0 + 3.0) / 2, (2.0 + 10.0) / 2)
    assert found.take(lambda own: own) is None
