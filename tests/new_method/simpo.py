"""SimPO (Meng, Xia & Chen 2024, arXiv:2405.14734): mean log-probs with a margin, neither likelihood nor reference."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from recipes.config import Stage
from recipes.data.prepare import load_rows
from recipes.engine.loss import LogProbs, Loss
from recipes.engine.packing import PackedBatch
from recipes.methods import METHODS
from recipes.orpo import ORPOConfig, PackedORPOTrainer
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def simpo_loss(policy: LogProbs, beta: float, gamma: float) -> Loss:
    """Return SimPO's loss of each pair, equation 6 of the paper: the margin of two mean log-probs, less gamma."""
    chosen, rejected = beta * policy.mean_chosen, beta * policy.mean_rejected
    return Loss(preference=-logsigmoid(chosen - rejected - gamma), rewards=(chosen, rejected))


@dataclass
class SimPOConfig(ORPOConfig):
    """ORPO's options and the margin; TRL's own forward pass has no such loss."""

    gamma: float = 0.5


class SimPOTrainer(PackedORPOTrainer):
    """`simpo_loss` on packed rows."""

    method = METHODS["simpo"]
    args: SimPOConfig

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `simpo_loss` of a batch."""
        return simpo_loss(policy, self.beta, self.args.gamma)


def train(stage: Stage) -> None:
    """Train one SimPO stage."""
    args = arguments(SimPOConfig, stage)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    rows = load_rows(stage)
    trainer = SimPOTrainer(
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
