"""The odds ratio is finite with finite gradients wherever a mean log-prob can be, and right where it is easy."""

import math

import pytest
import torch

from recipes.odds import log_odds, log_odds_ratio

EDGES = [0.0, -1e-30, -1e-9, -1e-7, -1e-3, -math.log(2), -1.0, -20.0, -88.0, -110.0, -1e4, -1e30]


@pytest.mark.parametrize("probability", [1e-6, 0.1, 0.5, 0.9, 1 - 1e-6])
def test_log_odds_are_equation_4(probability: float) -> None:
    logp = torch.tensor(math.log(probability), dtype=torch.float64, requires_grad=True)
    odds = log_odds(logp)
    odds.backward()
    assert odds.item() == pytest.approx(math.log(probability / (1 - probability)), rel=1e-9, abs=1e-9)
    assert logp.grad is not None and logp.grad.item() == pytest.approx(1 / (1 - probability), rel=1e-9)


@pytest.mark.parametrize("chosen", EDGES)
@pytest.mark.parametrize("rejected", EDGES)
def test_loss_and_gradient_are_finite_everywhere(chosen: float, rejected: float) -> None:
    both = torch.tensor([chosen, rejected], requires_grad=True)
    ratio, loss = log_odds_ratio(both[:1], both[1:])
    loss.sum().backward()
    assert both.grad is not None and both.grad.isfinite().all() and loss.isfinite().all() and ratio.isfinite().all()
    assert both.grad[0] >= 0 >= both.grad[1], "a better chosen answer never costs, a better rejected one never pays"


def test_equal_answers_cost_ln_2() -> None:
    logp = torch.tensor([-0.0, -0.3, -50.0])
    ratio, loss = log_odds_ratio(logp, logp.clone())
    assert torch.equal(ratio, torch.zeros(3)) and torch.allclose(-loss, torch.full((3,), math.log(2)))


def test_half_precision_is_computed_in_float32() -> None:
    logp = torch.tensor([-0.01], dtype=torch.bfloat16)
    assert log_odds(logp).dtype == torch.float32
    assert torch.equal(log_odds(logp), log_odds(logp.float()))
