"""SimPO (Meng, Xia & Chen 2024, arXiv:2405.14734): log-probs per token with a margin, and no reference model."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recipes.config import Stage
from recipes.data.pairs import load_rows
from recipes.engine.loss import LogProbs, Loss
from recipes.engine.options import check_choice, check_engine
from recipes.engine.packing import PackedBatch
from recipes.engine.reference_free import OnOurIds, PackedReferenceFree, check_label_smoothing, trl_cpo
from recipes.methods import METHODS
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def simpo_loss(
    policy: LogProbs,
    beta: float,
    gamma: float,
    alpha: float = 0.0,
    label_smoothing: float = 0.0,
    nll_weight: float = 0.0,
) -> Loss:
    """Return SimPO's loss of each pair, equation 6 of the paper:

        L = -log sigmoid(beta * log p(y_w) - beta * log p(y_l) - gamma)

    where y_w is the chosen and y_l the rejected response, and log p = log p(y | x) / |y|. Log-probs are *means* over a
    response's tokens, as in generation, so length does not matter. Nothing holds the policy to where it started but a
    small learning rate, and `nll_weight`.

    Args:
        policy: log-probs under the trained model, the only one.
        beta: the scale of the rewards.
        gamma: the margin that a pair should reach, TRL's `simpo_gamma`; its authors start from beta / 2.
        alpha: the shape of the reward, AlphaPO's (`shaped`); 0 for log p itself.
        label_smoothing: how likely a label is wrong.
        nll_weight: of the chosen response's negative log-likelihood per token, TRL's `cpo_alpha`: CPO-SimPO.
    """
    chosen, rejected = (beta * shaped(mean, alpha) for mean in (policy.mean_chosen, policy.mean_rejected))
    beyond = chosen - rejected - gamma
    return Loss(
        preference=-(1 - label_smoothing) * logsigmoid(beyond) - label_smoothing * logsigmoid(-beyond),
        nll=policy.nll if nll_weight else None,
        nll_weight=nll_weight,
        rewards=(chosen, rejected),
    )


def shaped(logp: Tensor, alpha: float) -> Tensor:
    """Return AlphaPO's reward (1 - p^-alpha) / alpha of p = exp(`logp`), or its limit, `logp`, at zero.

    arXiv:2501.03884; of any shape.
    """
    return -torch.expm1(-alpha * logp) / alpha if alpha else logp


@dataclass
class SimPOConfig(trl_cpo.CPOConfig):
    """TRL's options for SimPO, which are CPO's, and which engine computes its loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass, whose NLL is a mean over each micro-batch
    loss_type: str = "simpo"
    beta: float = 2.0
    cpo_alpha: float = 0.0  # the weight of the chosen response's NLL, which SimPO has not and CPO-SimPO has
    simpo_gamma: float = 1.0

    def __post_init__(self) -> None:
        """Check the engine and the loss; TRL checks its own options.

        Raises:
            ValueError: there is no such engine, or the engine does not support an option.
        """
        check_choice("loss_type", self.loss_type, ("simpo",))
        super().__post_init__()
        check_engine(self, heeded=("cpo_alpha", "simpo_gamma", "alpha", "label_smoothing"))
        check_label_smoothing(self.label_smoothing)


class StockSimPOTrainer(OnOurIds, trl_cpo.CPOTrainer):
    """TRL's forward pass and loss."""

    method = METHODS["simpo"]


class PackedSimPOTrainer(PackedReferenceFree, StockSimPOTrainer):
    """`simpo_loss` on packed rows."""

    nll_span = "completion"
    args: SimPOConfig

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `simpo_loss` of a batch."""
        return simpo_loss(policy, self.beta, self.simpo_gamma, self.alpha, self.label_smoothing, self.cpo_alpha)


TRAINERS = {"packed": PackedSimPOTrainer, "stock": StockSimPOTrainer}


def train(stage: Stage) -> None:
    """Train one SimPO stage."""
    args = arguments(SimPOConfig, stage)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    rows = load_rows(stage)
    trainer = TRAINERS[args.engine](
        load_model(stage, tokenizer),
        args=args,
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        processing_class=tokenizer,
        peft_config=peft_config(stage),
    )
    fit(trainer, stage)


if __name__ == "__main__":
    main("recipes.simpo")
