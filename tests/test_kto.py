"""KTO: its paper's equations in float64, and stock TRL's loss, gradients, steps and metrics."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, assert_same, model_of, rows_of
from trainers import FIVE_STEPS, Make, gradients, maker, train_alike

from recipes.engine.loss import LogProbs
from recipes.engine.mismatched import mismatched
from recipes.engine.packing import Pair, pack, pair_of
from recipes.kto import KTOConfig, kto_loss
from recipes.training.checks import of_kto

BETA, GOOD, BAD = 0.3, 1.5, 0.7
OPTIONS: dict[str, object] = {"beta": BETA, "desirable_weight": GOOD, "undesirable_weight": BAD}
SCORES = ("entropy", "num_tokens", "logits/")  # they need every logit, or are the meter's


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer."""
    return maker(tiny_model, tmp_path)


def move(trainer: Any, sign: int) -> None:
    """Move the policy away from its reference."""
    torch.manual_seed(2)
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data += sign * 0.02 * torch.randn_like(weight)


def moved(packed: Any, *others: Any) -> None:
    """Move policies towards mismatched responses, so that the reference point is positive: it is cut at 0."""
    pairs = [pair_of(row) for row in packed.train_dataset]
    (wrong,) = mismatched([pairs], 0, None)
    policy = packed.log_probs(packed.model, pack(wrong, "completion"))
    weights = {name: weight for name, weight in packed.model.named_parameters() if weight.requires_grad}
    uphill = torch.autograd.grad((policy.chosen + policy.rejected).sum(), list(weights.values()))
    length = torch.stack([step.norm() for step in uphill]).norm()
    for trainer in (packed, *others):
        own = dict(trainer.model.named_parameters())
        for name, step in zip(weights, uphill, strict=True):
            own[name].data += 0.1 * step / length
    packed.begin_step([pairs])
    assert packed.point > 1e-3


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_the_loss_is_the_papers_equation() -> None:
    torch.manual_seed(0)
    sums = torch.randn(2, 3, 40, dtype=torch.float64) * 5
    policy, reference = (LogProbs.of(part, torch.ones(3, 40, dtype=torch.int64)) for part in sums)
    point = torch.tensor(0.8, dtype=torch.float64)
    found = kto_loss(policy, reference, point, BETA, GOOD, BAD).preference
    ratios = (sums[0] - sums[1])[1:].T.tolist()
    expected = [
        (GOOD * (1 - sigmoid(BETA * (good - 0.8))) + BAD * (1 - sigmoid(BETA * (0.8 - bad)))) / 2
        for good, bad in ratios
    ]
    assert found is not None and found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("family, adapters", [*((family, False) for family in FAMILIES), ("Llama", True)])
def test_loss_and_gradients_are_stock_trls(make: Make, family: str, adapters: bool) -> None:
    found, expected = (
        make("kto", engine, rows_of(6), family, adapters, per_device_train_batch_size=6, **OPTIONS)
        for engine in ("packed", "stock")
    )
    moved(found, expected)
    (loss, ours), (truth, theirs) = gradients(found), gradients(expected)
    assert loss == pytest.approx(truth, rel=1e-5) and abs(truth - (GOOD + BAD) / 4) > 1e-3
    assert found.point.item() == pytest.approx(expected._metrics["train"]["kl"][-1], rel=1e-5, abs=1e-6)
    assert_same(ours, theirs, 1e-4)


def test_the_reference_point_is_the_mean_over_mismatched_responses(make: Make) -> None:
    """By plain forward passes, one response at a time; with policy and reference exchanged it has the other sign."""
    trainer = make("kto", "packed", rows_of(5), **OPTIONS)
    move(trainer, 1)
    pairs = [pair_of(row) for row in trainer.train_dataset]
    policy, reference = (
        {name: weight.clone() for name, weight in model.named_parameters()}
        for model in (trainer.model, trainer.ref_model)
    )

    def log_prob(weights: dict[str, torch.Tensor], prompt: list[int], response: list[int]) -> float:
        plain = model_of("Llama")
        plain.load_state_dict(weights, strict=False)
        with torch.no_grad():
            scores = plain(torch.tensor([prompt + response])).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        return scores.gather(-1, torch.tensor(response)[:, None]).sum().item()

    differences = [
        log_prob(policy, pair.prompt, response) - log_prob(reference, pair.prompt, response)
        for pair, other in zip(pairs, [pairs[-1], *pairs[:-1]], strict=True)
        for response in (other.chosen, other.rejected)
    ]
    found = sum(differences) / len(differences)
    assert abs(found) > 1e-3
    for ours, theirs, expected in ((policy, reference, found), (reference, policy, -found)):
        trainer.model.load_state_dict(ours, strict=False)
        trainer.ref_model.load_state_dict(theirs, strict=False)
        trainer.begin_step([pairs[:3], pairs[3:]])
        assert trainer.point.item() == pytest.approx(max(0.0, expected), rel=1e-5, abs=1e-9)


def test_responses_go_to_the_next_prompt_that_counts() -> None:
    pairs = [Pair([place], [10 + place], [20 + place], counted=place < 3) for place in range(4)]
    found = mismatched([pairs[:2], pairs[2:]], 0, None)
    assert [[pair.prompt[0] for pair in batch] for batch in found] == [[0, 1], [2, 3]]
    assert [[pair.chosen[0] - 10 for pair in batch] for batch in found] == [[2, 0], [1, 3]]
    assert all(pair.rejected[0] - 20 == pair.chosen[0] - 10 for batch in found for pair in batch)


def test_the_result_does_not_depend_on_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with two micro-batches each, in the order in which Accelerate deals a step's pairs out."""
    pairs = [Pair([place], [10 + place], [20 + place], counted=place < 7) for place in range(8)]
    (whole,) = mismatched([pairs], 0, None)
    shares = [[pairs[0:2], pairs[4:6]], [pairs[2:4], pairs[6:8]]]
    monkeypatch.setattr("recipes.engine.mismatched.gather_object", lambda own: shares)
    for process, share in enumerate(shares):
        found = [pair for batch in mismatched(share, process, None) for pair in batch]
        assert found == [whole[pair.prompt[0]] for batch in share for pair in batch]


def test_a_long_prompt_gets_no_more_of_a_response_than_fits() -> None:
    pairs = [Pair([1] * 6, [2], [3]), Pair([1], [4] * 7, [5] * 5)]
    ((first, second),) = mismatched([pairs], 0, 8)
    assert (first.prompt, first.chosen, first.rejected) == ([1] * 6, [4] * 2, [5] * 2)
    assert (second.prompt, second.chosen, second.rejected) == ([1], [2], [3])


def test_a_last_step_of_one_pair_keeps_the_point(make: Make) -> None:
    trainer = make("kto", "packed", rows_of(4), **OPTIONS)
    move(trainer, 1)
    trainer.point = torch.tensor(0.25)
    one, other = (pair_of(row) for row in trainer.train_dataset.select([0, 1]))
    trainer.begin_step([[one], [replace(other, counted=False)]])
    assert trainer.point == 0.25, "a pair's own responses say nothing of others"


def test_five_steps_give_stock_trls_weights_and_metrics(make: Make) -> None:
    steps = {**FIVE_STEPS, **OPTIONS}
    stock, packed = (make("kto", engine, rows_of(20), **steps) for engine in ("stock", "packed"))
    moved(packed, stock)
    train_alike(packed, stock)
    for found, expected in zip(packed.state.log_history[:5], stock.state.log_history[:5], strict=True):
        known = {name: value for name, value in expected.items() if not name.startswith(SCORES)}
        assert found.keys() - known.keys() == {"rewards_reference/accuracies"}  # of a pair, which TRL's rows are not
        assert {name: found[name] for name in known} == {
            name: pytest.approx(value, rel=1e-4, abs=1e-5) for name, value in known.items()
        }
    assert any(entry["kl"] > 1e-3 for entry in packed.state.log_history[:5])


def test_the_first_loss_is_known(make: Make) -> None:
    trainer = make("kto", "packed", rows_of(4), **OPTIONS)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx((GOOD + BAD) / 4, abs=1e-5) == of_kto(trainer.args)


def test_an_updates_gradient_does_not_depend_on_its_split(make: Make) -> None:
    """Nor does its reference point: it is one of the whole update. Eleven pairs are updates of eight and of three."""
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd", **OPTIONS}
    found = []
    for size in (8, 1):
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make("kto", "packed", rows_of(11), **common, **parts)
        moved(trainer)
        trainer.train()
        found.append((dict(trainer.model.named_parameters()), [log.get("kl") for log in trainer.state.log_history]))
    for name, weight in found[0][0].items():
        assert torch.allclose(weight, found[1][0][name], rtol=0, atol=1e-9), name
    points = found[0][1][:-1]
    assert points == pytest.approx(found[1][1][:-1], rel=1e-5, abs=1e-7) and any(point > 1e-3 for point in points)


def test_held_out_pairs_are_seen_from_the_last_steps_point(make: Make) -> None:
    rows, found = rows_of(7, seed=1), []
    for size in (1, 7):
        trainer = make("kto", "packed", rows_of(4), per_device_eval_batch_size=size, **OPTIONS)
        move(trainer, 1)
        trainer.point = torch.tensor(0.25)
        found.append({name: value for name, value in trainer.evaluate(rows).items() if "/" in name or "loss" in name})
        assert found[-1]["eval_loss"] == pytest.approx(found[0]["eval_loss"])
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss_type": "apo_zero_unpaired"}, "DPO's dpo.loss_type=.apo_zero."),
        ({"precompute_ref_log_probs": True}, "also scores each step's mismatched responses"),
        ({"engine": "stock", "per_device_train_batch_size": 1}, "hardware.per_device_batch=1"),
        (
            {"engine": "stock", "eval_strategy": "steps", "per_device_eval_batch_size": 1},
            "per_device_eval_batch_size=1: TRL's reference point",
        ),
        ({"sync_ref_model": True}, "sync_ref_model=True needs engine=stock"),
    ],
)
def test_what_it_does_not_do_is_refused(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        KTOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **given)  # type: ignore[arg-type]
