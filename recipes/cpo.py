"""CPO (Xu et al. 2024, arXiv:2401.08417): DPO without its reference model, kept in place by an NLL term."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid, relu

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


def cpo_loss(policy: LogProbs, beta: float, alpha: float, label_smoothing: float = 0.0, hinge: bool = False) -> Loss:
    """Return CPO's loss of each pair, the paper's preference loss (equation 3) and its NLL term:

        L = -log sigmoid(beta * log p(y_w | x) - beta * log p(y_l | x)) + alpha * NLL(y_w | x)

    where y_w is the chosen and y_l the rejected response. Log-probs are *sums* over a response's tokens; it is DPO's
    loss with a uniform reference model. NLL is the chosen response's negative log-likelihood per token.

    Args:
        policy: log-probs under the trained model, the only one.
        beta: how steeply the loss falls with the margin.
        alpha: the weight of the NLL term, TRL's `cpo_alpha`; 1 in the paper.
        label_smoothing: how likely a label is wrong.
        hinge: max(0, 1 - margin) instead of the logistic loss: SLiC-HF (Zhao et al. 2023, arXiv:2305.10425).
    """
    chosen, rejected = beta * policy.chosen, beta * policy.rejected
    margin = chosen - rejected
    logistic = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return Loss(
        preference=relu(1 - margin) if hinge else logistic,
        nll=policy.nll if alpha else None,
        nll_weight=alpha,
        rewards=(chosen, rejected),
    )


@dataclass
class CPOConfig(trl_cpo.CPOConfig):
    """TRL's options for CPO, and which engine computes its loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass, whose NLL is a mean over each micro-batch

    def __post_init__(self) -> None:
        """Check the engine and the loss; TRL checks its own options.

        Raises:
            ValueError: there is no such engine or loss, or the loss or the engine does not support an option.
        """
        if self.loss_type in ("simpo", "alphapo"):
            raise ValueError(f"loss_type={self.loss_type}: that is a method of its own, pipeline=simpo")
        super().__post_init__()
        check_engine(self, heeded=("loss_type", "cpo_alpha", "label_smoothing"))
        check_choice("loss_type", self.loss_type, ("sigmoid", "hinge"))
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise ValueError(f"label_smoothing={self.label_smoothing}: only loss_type=sigmoid has it")
        check_label_smoothing(self.label_smoothing)
        if (self.simpo_gamma, self.alpha) != (trl_cpo.CPOConfig.simpo_gamma, trl_cpo.CPOConfig.alpha):
            raise ValueError("simpo_gamma and alpha are SimPO's: use pipeline=simpo")


class StockCPOTrainer(OnOurIds, trl_cpo.CPOTrainer):
    """TRL's forward pass and loss."""

    method = METHODS["cpo"]


class PackedCPOTrainer(PackedReferenceFree, StockCPOTrainer):
    """`cpo_loss` on packed rows."""

    nll_span = "completion"
    args: CPOConfig

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `cpo_loss` of a batch."""
        return cpo_loss(policy, self.beta, self.cpo_alpha, self.label_smoothing, self.loss_type == "hinge")


TRAINERS = {"packed": PackedCPOTrainer, "stock": StockCPOTrainer}


def train(stage: Stage) -> None:
    """Train one CPO stage."""
    args = arguments(CPOConfig, stage)
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
    main("recipes.cpo")
