"""DPO's relatives (`dpo.loss_type`): their papers' equations, and stock TRL's training."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from families import assert_same, rows_of
from trainers import FIVE_STEPS, Make, gradients, maker, move_away, train_alike

from recipes.config import UserError
from recipes.dpo import DPOConfig, dpo_loss, weighted_loss
from recipes.engine.dpo_losses import DPO, LIKELIHOOD, RELATIVES, SORTED, first_loss
from recipes.engine.loss import LogProbs
from recipes.training.checks import check_first_loss

BETA, WRONG, TAU = 0.3, 0.1, 0.05
Pair = tuple[float, float, int, int]  # log-ratios of the chosen and the rejected response, and their tokens


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def exo(margin: float) -> float:
    """KL((q, 1 - q) || (1 - e, e)) of the policy's preference q."""
    q = sigmoid(margin)
    return q * math.log(q / (1 - WRONG)) + (1 - q) * math.log((1 - q) / WRONG)


def robust(margin: float) -> float:
    return (-(1 - WRONG) * log_sigmoid(margin) + WRONG * log_sigmoid(-margin)) / (1 - 2 * WRONG)


def discopop(margin: float) -> float:
    share = sigmoid(margin / TAU)
    return -log_sigmoid(margin) * (1 - share) + math.exp(-margin) * share


# From the papers; w and r are log-ratios, m and n the numbers of tokens.
EQUATIONS: dict[str, Callable[[float, float, int, int], float]] = {
    "sigmoid": lambda w, r, m, n: -log_sigmoid(BETA * (w - r)),
    "sigmoid_norm": lambda w, r, m, n: -log_sigmoid(BETA * (w / m - r / n)),
    "hinge": lambda w, r, m, n: max(0.0, 1 - BETA * (w - r)),
    "ipo": lambda w, r, m, n: (w / m - r / n - 1 / (2 * BETA)) ** 2,
    "robust": lambda w, r, m, n: robust(BETA * (w - r)),
    "exo_pair": lambda w, r, m, n: exo(BETA * (w - r)),
    "nca_pair": lambda w, r, m, n: -log_sigmoid(BETA * w) - (log_sigmoid(-BETA * w) + log_sigmoid(-BETA * r)) / 2,
    "bco_pair": lambda w, r, m, n: -log_sigmoid(BETA * w) - log_sigmoid(-BETA * r),
    "sppo_hard": lambda w, r, m, n: (w - 1 / (2 * BETA)) ** 2 + (r + 1 / (2 * BETA)) ** 2,
    "apo_zero": lambda w, r, m, n: 1 - sigmoid(BETA * w) + sigmoid(BETA * r),
    "apo_down": lambda w, r, m, n: sigmoid(BETA * w) + 1 - sigmoid(BETA * (w - r)),
    "discopop": lambda w, r, m, n: discopop(BETA * (w - r)),
}
# Every loss, and three mixtures that people use: Llama 3's, MPO's, and unequal weights.
TYPES: dict[str, dict[str, object]] = {
    **{name: {"loss_type": [name]} for name in (DPO, *RELATIVES)},
    "llama 3": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
    "mpo": {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    "likelihood": {"loss_type": ["sft"]},
}
SMOOTHED = {"robust": WRONG, "exo_pair": WRONG}


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer."""
    return maker(tiny_model, tmp_path)


def options(kind: str) -> dict[str, object]:
    return {**TYPES[kind], "beta": BETA, "label_smoothing": SMOOTHED.get(kind, 0.0), "discopop_tau": TAU}


def log_probs(pairs: list[Pair], dtype: torch.dtype) -> tuple[LogProbs, LogProbs]:
    """Of a policy and a reference whose log-ratios are those of `pairs`; the policy's are leaves of autograd."""
    chosen, rejected, m, n = (torch.tensor(column, dtype=dtype) for column in zip(*pairs, strict=True))
    none = torch.zeros_like(m)
    reference = LogProbs(none, -3 * m, -2 * n, none, m, n)
    policy = (chosen + reference.chosen).requires_grad_(), (rejected + reference.rejected).requires_grad_()
    return LogProbs(none, *policy, none, m, n), reference


def drawn() -> list[Pair]:
    random = np.random.default_rng(0)
    return [(*random.normal(0, 4, 2), *random.integers(1, 30, 2)) for _ in range(50)]


@pytest.mark.parametrize("name", [DPO, *RELATIVES])
def test_a_loss_is_its_papers_equation(name: str) -> None:
    options = {"beta": BETA, "label_smoothing": WRONG, "discopop_tau": TAU}
    found = weighted_loss(*log_probs(drawn(), torch.float64), {name: 1.0}, **options)
    assert found.preference is not None and found.nll is None
    assert found.preference.tolist() == pytest.approx([EQUATIONS[name](*pair) for pair in drawn()], rel=1e-9)


def test_a_sum_of_dpos_loss_alone_is_that_loss_to_the_last_bit() -> None:
    """So `loss_type=[sigmoid]` trains what recipes/dpo.py opens with: a product with 1.0 and a sum of one are exact."""
    (policy, reference), found = log_probs(drawn(), torch.float32), []
    for loss in (dpo_loss(policy, reference, BETA), weighted_loss(policy, reference, {DPO: 1.0}, beta=BETA)):
        assert loss.preference is not None and loss.rewards and (loss.nll, loss.nll_weight) == (None, 1.0)
        slopes = torch.autograd.grad(loss.preference.mean(), [policy.chosen, policy.rejected])
        found.append([loss.preference, *loss.rewards, *slopes])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("kind", TYPES)
def test_loss_and_gradients_are_stock_trls(make: Make, kind: str) -> None:
    """Of a policy that has moved away from its reference, so that every pair weighs differently."""
    results = []
    for engine in ("packed", "stock"):
        trainer = make("dpo", engine, rows_of(6), precompute_ref_log_probs=False, **options(kind))
        move_away(trainer)
        results.append(gradients(trainer))
    (loss, found), (truth, expected) = results
    assert loss == pytest.approx(truth, rel=1e-5)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_five_steps_give_stock_trls_weights_and_loss(make: Make, kind: str) -> None:
    steps = {**FIVE_STEPS, **options(kind)}
    stock, packed = (
        make("dpo", engine, rows_of(20), precompute_ref_log_probs=False, **steps) for engine in ("stock", "packed")
    )
    train_alike(packed, stock)
    losses = [[entry["loss"] for entry in trainer.state.log_history[:5]] for trainer in (packed, stock)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    known = first_loss(packed.loss_types, packed.loss_weights, beta=BETA, label_smoothing=SMOOTHED.get(kind, 0.0))
    assert known is None if LIKELIHOOD in packed.loss_types else losses[0][0] == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize("kind", ["ipo", "mpo"])
def test_an_updates_gradient_does_not_depend_on_its_split(make: Make, kind: str) -> None:
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd", **options(kind)}
    found = []
    for size in (8, 1):
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make("dpo", "packed", rows_of(11), **common, **parts)
        trainer.train()
        found.append(dict(trainer.model.named_parameters()))
    for name, weight in found[0].items():
        assert torch.allclose(weight, found[1][name], rtol=0, atol=1e-9), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss_type": ["kto"]}, "loss_type is 'kto': use sigmoid or sigmoid_norm"),
        ({"loss_type": [SORTED[0]]}, "loss_type=aot needs engine=stock: it sorts"),
        ({"loss_type": ["ipo", "ipo"]}, "name each once"),
        ({"loss_type": ["robust"], "label_smoothing": 0.5}, "label_smoothing=0.5: robust needs"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1: only robust"),
        ({"discopop_tau": 0.1}, "discopop_tau=0.1: only loss_type"),
        ({"loss_type": ["exo_pair"]}, "label_smoothing=0.0: exo_pair needs more than 0"),
        ({"loss_type": ["hinge"], "f_divergence_type": "js_divergence"}, "f_divergence_type=js_divergence needs"),
        ({"loss_weights": [1.0, 2.0]}, "must have the same length"),
    ],
)
def test_a_loss_that_cannot_be_trained_is_refused(tmp_path: Path, given: dict[str, object], said: str) -> None:
    fixed: dict[str, object] = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}
    with pytest.raises(ValueError, match=said):
        DPOConfig(**fixed, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("beta", "exact", "stops"), [(0.1, False, True), (1.0, False, False), (1.0, True, True)])
def test_a_first_loss_may_be_off_by_what_beta_makes_of_bf16s_rounding(
    tmp_path: Path, beta: float, exact: bool, stops: bool
) -> None:
    args = DPOConfig(str(tmp_path), beta=beta, use_cpu=True, bf16=False)
    with pytest.raises(UserError, match="first loss") if stops else nullcontext():
        check_first_loss("dpo", args, math.log(2) + 0.1, exact=exact)
