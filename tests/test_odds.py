"""The odds ratio is finite with finite gradients wherever a mean log-prob can be, and right where it is easy."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from recipes.engine.loss import LogProbs, log_odds
from recipes.orpo import orpo_loss


def log_odds_ratio(chosen: torch.Tensor, rejected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ratio of equation 5 and its log-sigmoid, as ORPO's loss makes them of responses of one token."""
    none, one = torch.zeros_like(chosen, dtype=torch.int64), torch.ones_like(chosen, dtype=torch.int64)
    loss = orpo_loss(LogProbs(none, chosen, rejected, none, one, one), beta=1.0)
    assert loss.preference is not None
    return loss.metrics["log_odds_chosen"], -loss.preference


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


WORDS = 5
CHOSEN, REJECTED = [0, 3, 1, 4, 2, 2], [0, 4, 4, 1]  # answers of a bigram model, after their first token


def bigram(table: np.ndarray, answer: list[int]) -> tuple[float, np.ndarray]:
    """Equation 3 of a bigram model by hand: log P(y|x) / |y|, and its gradient by the table of logits.

    d log softmax(z)[k] / dz is the k-th unit vector less softmax(z).
    """
    total, gradient = 0.0, np.zeros_like(table)
    for before, token in pairwise(answer):
        probabilities = np.exp(table[before]) / np.exp(table[before]).sum()
        total += math.log(probabilities[token])
        gradient[before] += np.eye(WORDS)[token] - probabilities
    return total / (len(answer) - 1), gradient / (len(answer) - 1)


def loss(table: torch.Tensor, weight: float) -> torch.Tensor:
    """Equation 6 with this project's odds, for autograd: -log P(chosen) - weight * log sigmoid(log OR)."""
    log_probs = table.log_softmax(-1)
    chosen, rejected = (
        torch.stack([log_probs[pair] for pair in pairwise(answer)]).mean() for answer in (CHOSEN, REJECTED)
    )
    return -chosen - weight * log_odds_ratio(chosen, rejected)[1]


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_the_gradient_is_equations_8_to_10_with_the_sign_put_right(scale: float) -> None:
    """Printed: ∇L_OR = δ·h. That is the gradient of +log σ(log OR): the loss is its negative, so ∇L_OR = -δ·h.

    With δ = 1 / (1 + odds_w / odds_l) and h = ∇log P_w / (1 - P_w) - ∇log P_l / (1 - P_l), where P is the geometric
    mean of equation 3. Derived here by hand and in float64, for all of ORPO's loss.
    """
    table = scale * np.random.default_rng(0).normal(size=(WORDS, WORDS))
    (chosen, up), (rejected, down) = bigram(table, CHOSEN), bigram(table, REJECTED)
    odds = [math.exp(logp) / (1 - math.exp(logp)) for logp in (chosen, rejected)]
    delta = 1 / (1 + odds[0] / odds[1])
    h = up / (1 - math.exp(chosen)) - down / (1 - math.exp(rejected))
    by_hand = -up + 0.5 * -delta * h
    weights = torch.tensor(table, requires_grad=True)
    loss(weights, 0.5).backward()
    assert weights.grad is not None
    np.testing.assert_allclose(weights.grad.numpy(), by_hand, rtol=1e-9, atol=1e-12)
