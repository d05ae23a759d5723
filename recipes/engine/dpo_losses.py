"""DPO's relatives by TRL's names (`dpo.loss_type`): the loss of a pair, from two log-ratios.

DPO's own loss is the first function of recipes/dpo.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from recipes.engine.loss import LN2, LogProbs


@dataclass(frozen=True)
class Ratios:
    """How far the policy is from its reference: log p(y|x) - log p_ref(y|x), summed over a response's tokens.

    Tensors have the shape (pairs,). With f(y) = beta * ratio(y), DPO's implicit reward, the losses below are written in
    f(w) of the chosen and f(l) of the rejected response.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    beta: float
    label_smoothing: float = 0.0  # of `robust` and `exo_pair`: how likely a label is wrong
    discopop_tau: float = 0.05

    @classmethod
    def of(cls, policy: LogProbs, reference: LogProbs, **options: float) -> "Ratios":
        """Return the ratios of two models' log-probs."""
        chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
        return cls(chosen, rejected, policy.chosen_tokens, policy.rejected_tokens, **options)

    @property
    def rewards(self) -> tuple[Tensor, Tensor]:
        """f(w) and f(l)."""
        return self.beta * self.chosen, self.beta * self.rejected

    @property
    def margin(self) -> Tensor:
        """f(w) - f(l)."""
        return self.beta * (self.chosen - self.rejected)

    @property
    def mean_margin(self) -> Tensor:
        """The ratio per token of the chosen response minus that of the rejected one, without beta."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens


def sigmoid_norm(pair: Ratios) -> Tensor:
    """DPO on ratios per token, so that length does not matter; Tülu 3, arXiv:2411.15124, equation 6."""
    return -logsigmoid(pair.beta * pair.mean_margin)


def hinge(pair: Ratios) -> Tensor:
    """SLiC's hinge on log-ratios: max(0, 1 - (f(w) - f(l))); "hinge-norm" of RSO, arXiv:2309.06657."""
    return relu(1 - pair.margin)


def ipo(pair: Ratios) -> Tensor:
    """IPO: (ratio(w) - ratio(l) - 1 / (2 beta))^2, per token as its authors use it; arXiv:2310.12036, equation 17."""
    return (pair.mean_margin - 1 / (2 * pair.beta)) ** 2


def robust(pair: Ratios) -> Tensor:
    """Robust DPO: the loss without label noise, in expectation; arXiv:2403.00409."""
    wrong = pair.label_smoothing
    return ((wrong - 1) * logsigmoid(pair.margin) + wrong * logsigmoid(-pair.margin)) / (1 - 2 * wrong)


def exo_pair(pair: Ratios) -> Tensor:
    """EXO: KL(policy's preference || labels with smoothing); arXiv:2402.00856, equation 16."""
    prefers, wrong = torch.sigmoid(pair.margin), pair.margin.new_tensor(pair.label_smoothing)
    right = prefers * (logsigmoid(pair.margin) - torch.log1p(-wrong))
    return right + (1 - prefers) * (logsigmoid(-pair.margin) - torch.log(wrong))


def nca_pair(pair: Ratios) -> Tensor:
    """NCA: raises f(w) by itself, and lowers both; arXiv:2402.05369."""
    chosen, rejected = pair.rewards
    return -logsigmoid(chosen) - 0.5 * (logsigmoid(-chosen) + logsigmoid(-rejected))


def bco_pair(pair: Ratios) -> Tensor:
    """BCO without its reference point: chosen above, rejected below the reference; arXiv:2404.04656."""
    chosen, rejected = pair.rewards
    return -logsigmoid(chosen) - logsigmoid(-rejected)


def sppo_hard(pair: Ratios) -> Tensor:
    """SPPO with certain labels: ratios of ±1 / (2 beta) are the aim; arXiv:2405.00675, equation 4.7."""
    aim = 0.5 / pair.beta
    return (pair.chosen - aim) ** 2 + (pair.rejected + aim) ** 2


def apo_zero(pair: Ratios) -> Tensor:
    """APO-zero: raises chosen, lowers rejected; for responses better than the model's; arXiv:2408.06266, equation 7."""
    chosen, rejected = pair.rewards
    return torch.sigmoid(-chosen) + torch.sigmoid(rejected)


def apo_down(pair: Ratios) -> Tensor:
    """APO-down: lowers both, rejected more; for responses worse than the model's; arXiv:2408.06266, equation 8."""
    chosen, _ = pair.rewards
    return torch.sigmoid(chosen) + torch.sigmoid(-pair.margin)


def discopop(pair: Ratios) -> Tensor:
    """DiscoPOP: logistic, and exponential where the margin is positive; arXiv:2406.08414, equation 5."""
    share = torch.sigmoid(pair.margin / pair.discopop_tau)
    return (1 - share) * -logsigmoid(pair.margin) + share * torch.exp(-pair.margin)


RELATIVES: dict[str, Callable[[Ratios], Tensor]] = {
    loss.__name__: loss
    for loss in (
        *(sigmoid_norm, hinge, ipo, robust, exo_pair),
        *(nca_pair, bco_pair, sppo_hard, apo_zero, apo_down, discopop),
    )
}
DPO = "sigmoid"  # TRL's name of DPO's own loss
LIKELIHOOD = "sft"  # the chosen response's NLL, a part of a weighted sum
SORTED = ("aot", "aot_unpaired")  # these compare a micro-batch's sorted ratios, so they depend on how it is split


def first_loss(names: list[str], weights: list[float], **options: float) -> float | None:
    """Return the loss where policy and reference are the same model; None if it depends on the data."""
    if not {*names} <= {DPO, *RELATIVES}:
        return None
    zero, one = torch.zeros(1), torch.ones(1)
    equal = Ratios(zero, zero, one, one, **options)
    known = {name: LN2 if name == DPO else RELATIVES[name](equal).item() for name in names}
    return sum(weight * known[name] for name, weight in zip(names, weights, strict=True))
