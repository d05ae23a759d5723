"""Every packed method against TRL's trainer and against itself: the figures of docs/parity.md (`make parity`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import rows_of
from trainers import FIVE_STEPS, METHODS, OTHERS, Make, gradients, maker, move_away

from recipes.methods import PACKED

Keep = Callable[[str, str, float], None]
OPTIONS: dict[str, dict[str, Any]] = {
    "sft": {"completion_only_loss": True},
    "dpo": {"beta": 0.3, "precompute_ref_log_probs": False},
    "cpo": {"cpo_alpha": 0.5},
    "kto": {"beta": 0.3},
    "reward": {"center_rewards_coefficient": 0.05},
}


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer of a method, with its options above."""
    build = maker(tiny_model, tmp_path)
    return lambda method, engine, rows, **options: build(method, engine, rows, **OPTIONS.get(method, {}) | options)


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in trainer.model.named_parameters()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    return max(float((value - other[name]).abs().max()) for name, value in one.items())


def test_every_packed_method_is_here() -> None:
    assert {*METHODS, *OTHERS} == {*PACKED}


@pytest.mark.parametrize("method", PACKED)
def test_loss_and_gradients_are_trls(make: Make, keep: Keep, method: str) -> None:
    """Of a policy that has moved away from its reference; gradients as shares of each tensor's largest entry."""
    results = []
    for engine in ("packed", "stock"):
        trainer = make(method, engine, rows_of(6), per_device_train_batch_size=6)
        move_away(trainer)
        results.append(gradients(trainer))
    (loss, found), (truth, expected) = results
    largest = max(float(value.abs().max()) for value in expected.values())
    # A key's bias has no gradient: what is left of it is rounding.
    shown = {name: value for name, value in expected.items() if value.abs().max() > 1e-6 * largest}
    shares = [float((found[name] - value).abs().max() / value.abs().max()) for name, value in shown.items()]
    keep(method, "loss", abs(loss - truth) / abs(truth))
    keep(method, "gradients", max(shares))
    assert abs(loss - truth) <= 1e-5 * abs(truth) and max(shares) <= 1e-4


@pytest.mark.parametrize("method", PACKED)
def test_five_steps_end_with_trls_weights(make: Make, keep: Keep, method: str) -> None:
    packed, stock = (make(method, engine, rows_of(20), **FIVE_STEPS) for engine in ("packed", "stock"))
    before = {name: weight.clone() for name, weight in weights(packed).items()}
    for trainer in (packed, stock):
        trainer.train()
    found = apart(weights(packed), weights(stock))
    keep(method, "five steps", found)
    assert found < 1e-5 < apart(weights(packed), before)


@pytest.mark.parametrize("method", PACKED)
def test_weights_do_not_depend_on_the_split(make: Make, keep: Keep, method: str) -> None:
    """One micro-batch of eight pairs against eight of one; the last optimizer step has three."""
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd"}
    found = []
    for size in (8, 1):
        trainer = make(
            method,
            "packed",
            rows_of(11),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            **common,
        )
        trainer.train()
        found.append(weights(trainer))
    keep(method, "splits", apart(*found))
    assert apart(*found) < 1e-9


@pytest.mark.parametrize("method", PACKED)
def test_a_resumed_training_ends_bit_for_bit_the_same(make: Make, keep: Keep, tmp_path: Path, method: str) -> None:
    steps = {"max_steps": 4, "per_device_train_batch_size": 3, "learning_rate": 1e-3, "save_strategy": "steps"}
    whole = make(method, "packed", rows_of(20), output_dir=str(tmp_path / "whole"), save_steps=2, **steps)
    whole.train()
    resumed = make(method, "packed", rows_of(20), output_dir=str(tmp_path / "resumed"), save_steps=2, **steps)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.global_step == 4
    keep(method, "resumed", apart(weights(whole), weights(resumed)))
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())
