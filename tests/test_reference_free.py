"""CPO and SimPO: their papers' equations in float64, and stock TRL's loss, gradients, steps and metrics."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, assert_same, rows_of
from trainers import FIVE_STEPS, Make, gradients, maker, train_alike

from recipes.cpo import CPOConfig, cpo_loss
from recipes.dpo import dpo_loss
from recipes.engine.loss import LogProbs, Loss
from recipes.simpo import SimPOConfig, simpo_loss

BETA, WEIGHT, WRONG, GAMMA, SHAPE = 0.7, 0.4, 0.1, 0.3, 0.25
# A pair: the summed log-probs of the chosen and the rejected response, and their tokens.
Equation = Callable[[float, float, int, int], float]


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def alpha_reward(mean: float) -> float:
    """AlphaPO's (1 - p^-alpha) / alpha of p, the geometric mean of the tokens' probabilities."""
    return (1 - math.exp(mean) ** -SHAPE) / SHAPE


# How TRL's options spell it -> our loss of log-probs, and the paper's equation.
LOSSES: dict[str, tuple[dict[str, object], Callable[[LogProbs], Loss], Equation]] = {
    "cpo": (
        {"beta": BETA, "cpo_alpha": WEIGHT},
        lambda policy: cpo_loss(policy, BETA, WEIGHT),
        lambda w, r, m, n: -log_sigmoid(BETA * w - BETA * r),
    ),
    "cpo smoothed": (
        {"beta": BETA, "cpo_alpha": 0.0, "label_smoothing": WRONG},
        lambda policy: cpo_loss(policy, BETA, 0.0, WRONG),
        lambda w, r, m, n: -(1 - WRONG) * log_sigmoid(BETA * (w - r)) - WRONG * log_sigmoid(BETA * (r - w)),
    ),
    "cpo hinge": (
        {"beta": BETA, "cpo_alpha": WEIGHT, "loss_type": "hinge"},
        lambda policy: cpo_loss(policy, BETA, WEIGHT, hinge=True),
        lambda w, r, m, n: max(0.0, 1 - BETA * (w - r)),
    ),
    "simpo": (
        {"beta": BETA, "simpo_gamma": GAMMA},
        lambda policy: simpo_loss(policy, BETA, GAMMA),
        lambda w, r, m, n: -log_sigmoid(BETA / m * w - BETA / n * r - GAMMA),
    ),
    "simpo with likelihood": (
        {"beta": BETA, "simpo_gamma": GAMMA, "cpo_alpha": WEIGHT, "label_smoothing": WRONG},
        lambda policy: simpo_loss(policy, BETA, GAMMA, 0.0, WRONG, WEIGHT),
        lambda w, r, m, n: (
            -(1 - WRONG) * log_sigmoid(BETA * (w / m - r / n) - GAMMA)
            - WRONG * log_sigmoid(GAMMA - BETA * (w / m - r / n))
        ),
    ),
    "simpo alphapo": (
        {"beta": BETA, "simpo_gamma": GAMMA, "alpha": SHAPE},
        lambda policy: simpo_loss(policy, BETA, GAMMA, SHAPE),
        lambda w, r, m, n: -log_sigmoid(BETA * (alpha_reward(w / m) - alpha_reward(r / n)) - GAMMA),
    ),
}
DEFAULTS = {"cpo": {}, "simpo": {}}


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer."""
    return maker(tiny_model, tmp_path)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_its_papers_equation(kind: str) -> None:
    random = np.random.default_rng(0)
    sums, counts = -np.abs(random.normal(0, 4, (3, 50))), random.integers(1, 30, (3, 50))
    policy = LogProbs.of(torch.tensor(sums), torch.tensor(counts))
    options, ours, equation = LOSSES[kind]
    found = ours(policy)
    pairs = zip(sums[1], sums[2], counts[1], counts[2], strict=True)
    assert found.preference is not None
    assert found.preference.tolist() == pytest.approx([equation(*pair) for pair in pairs], rel=1e-9)
    assert (found.nll is None) == (not options.get("cpo_alpha", kind.startswith("cpo")))
    if found.nll is not None:
        assert found.nll_weight == WEIGHT and torch.equal(found.nll, policy.nll)


@pytest.mark.parametrize("method", DEFAULTS)
@pytest.mark.parametrize("family, adapters", [*((family, False) for family in FAMILIES), ("Llama", True)])
def test_loss_and_gradients_are_stock_trls(make: Make, method: str, family: str, adapters: bool) -> None:
    found, expected = (gradients(make(method, engine, rows_of(6), family, adapters)) for engine in ("packed", "stock"))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert_same(found[1], expected[1], 1e-4)


@pytest.mark.parametrize("kind", LOSSES)
def test_so_are_those_of_every_variant(make: Make, kind: str) -> None:
    method, options = kind.split()[0], LOSSES[kind][0]
    found, expected = (gradients(make(method, engine, rows_of(6), **options)) for engine in ("packed", "stock"))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert_same(found[1], expected[1], 1e-4)


@pytest.mark.parametrize("kind", LOSSES)
def test_five_steps_give_stock_trls_weights_and_metrics(make: Make, kind: str) -> None:
    method, options = kind.split()[0], LOSSES[kind][0]
    steps = {**FIVE_STEPS, **options}
    stock, packed = (make(method, engine, rows_of(20), **steps) for engine in ("stock", "packed"))
    train_alike(packed, stock)
    none = {"nll_loss"} if not packed.args.cpo_alpha else set[str]()  # TRL logs 0 where there is none
    for found, expected in zip(packed.state.log_history[:5], stock.state.log_history[:5], strict=True):
        assert found.keys() == {name for name in expected if not name.startswith("logits/")} - none
        assert found == {name: pytest.approx(expected[name], rel=1e-4, abs=1e-6) for name in found}


@pytest.mark.parametrize("kind", ["cpo", "simpo with likelihood"])
def test_an_updates_gradient_does_not_depend_on_its_split(make: Make, kind: str) -> None:
    """Eleven pairs are updates of eight and of three."""
    method, options = kind.split()[0], LOSSES[kind][0]
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd", **options}
    found = []
    for size in (8, 1):
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make(method, "packed", rows_of(11), **common, **parts)
        trainer.train()
        found.append(dict(trainer.model.named_parameters()))
    for name, weight in found[0].items():
        assert torch.allclose(weight, found[1][name], rtol=0, atol=1e-9), name


@pytest.mark.parametrize("kind", ["cpo", "simpo"])
def test_the_held_out_loss_is_the_trained_one_whatever_the_batch_size(make: Make, kind: str) -> None:
    rows, found = rows_of(7), []
    for size in (1, 7):
        trainer = make(kind, "packed", rows, per_device_eval_batch_size=size, **LOSSES[kind][0])
        metrics = trainer.evaluate(rows)
        assert metrics["eval_loss"] == pytest.approx(gradients(trainer)[0], rel=1e-6)
        found.append({name: value for name, value in metrics.items() if "/" in name or "loss" in name})
    assert found[0] == pytest.approx(found[1])


def test_cpo_is_dpo_with_a_uniform_reference() -> None:
    """And SimPO without a margin is CPO of log-probs per token."""
    torch.manual_seed(0)
    policy = LogProbs.of(-torch.rand(3, 5, dtype=torch.float64) * 20, torch.randint(1, 9, (3, 5)))
    uniform = LogProbs.of(torch.full((3, 5), -7.0, dtype=torch.float64), torch.ones(3, 5, dtype=torch.int64))
    dpo, without = dpo_loss(policy, uniform, BETA), cpo_loss(policy, BETA, 0.0)
    assert dpo.preference is not None and without.preference is not None
    assert torch.allclose(dpo.preference, without.preference)
    means = LogProbs.of(
        torch.stack([policy.prompt, policy.mean_chosen, policy.mean_rejected]), torch.ones(3, 5, dtype=torch.int64)
    )
    cpo, simpo = cpo_loss(means, BETA, 0.0), simpo_loss(policy, BETA, 0.0)
    assert cpo.preference is not None and simpo.preference is not None
    assert torch.allclose(cpo.preference, simpo.preference)
    small = simpo_loss(policy, BETA, GAMMA, alpha=1e-6)  # AlphaPO's reward tends to the log-prob
    plain = simpo_loss(policy, BETA, GAMMA)
    assert small.preference is not None and plain.preference is not None
    assert torch.allclose(small.preference, plain.preference, rtol=1e-3)


@pytest.mark.parametrize(
    ("config", "given", "said"),
    [
        (CPOConfig, {"loss_type": "simpo"}, "a method of its own, pipeline=simpo"),
        (CPOConfig, {"loss_type": "alphapo"}, "a method of its own"),
        (CPOConfig, {"loss_type": "ipo"}, "loss_type is 'ipo': use sigmoid or hinge"),
        (CPOConfig, {"loss_type": "hinge", "label_smoothing": 0.1}, "only loss_type=sigmoid has it"),
        (CPOConfig, {"label_smoothing": 0.5}, "label_smoothing=0.5: use 0 or more"),
        (CPOConfig, {"engine": "stock", "simpo_gamma": 2.0}, "simpo_gamma and alpha are SimPO's"),
        (CPOConfig, {"generate_during_eval": True}, "generate_during_eval=True needs engine=stock"),
        (SimPOConfig, {"loss_type": "sigmoid"}, "loss_type is 'sigmoid': use simpo"),
        (SimPOConfig, {"label_smoothing": -0.1}, "label_smoothing=-0.1: use 0 or more"),
        (SimPOConfig, {"engine": "fast"}, "engine is 'fast': use packed or stock"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, config: type, given: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        config(output_dir=str(tmp_path), use_cpu=True, bf16=False, **given)
