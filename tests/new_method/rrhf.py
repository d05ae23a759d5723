"""RRHF (Yuan et al. 2023, arXiv:2304.05302) of two responses: a ranking of mean log-probs, and the chosen one's NLL."""

from dataclasses import dataclass

from torch.nn.functional import relu

from recipes.config import Stage
from recipes.data.pairs import load_rows
from recipes.engine.loss import LogProbs, Loss
from recipes.engine.packing import PackedBatch
from recipes.methods import METHODS
from recipes.orpo import ORPOConfig, PackedORPOTrainer
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def rrhf_loss(policy: LogProbs, gap: float) -> Loss:
    """Return RRHF's loss of each pair, the paper's ranking and fine-tuning losses; the paper has no `gap`."""
    chosen, rejected = policy.mean_chosen, policy.mean_rejected
    return Loss(preference=relu(rejected - chosen + gap), nll=policy.nll, rewards=(chosen, rejected))


@dataclass
class RRHFConfig(ORPOConfig):
    """ORPO's options and the gap; TRL's own forward pass has no such loss."""

    gap: float = 0.0


class RRHFTrainer(PackedORPOTrainer):
    """`rrhf_loss` on packed rows."""

    method = METHODS["rrhf"]
    args: RRHFConfig

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `rrhf_loss` of a batch."""
        return rrhf_loss(policy, self.args.gap)


def train(stage: Stage) -> None:
    """Train one RRHF stage."""
    args = arguments(RRHFConfig, stage)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    rows = load_rows(stage)
    trainer = RRHFTrainer(
        load_model(stage, tokenizer),
        args=args,
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        processing_class=tokenizer,
        peft_config=peft_config(stage),
    )
    fit(trainer, stage)


if __name__ == "__main__":
    main("recipes.rrhf")
