"""ORPO (Hong, Lee & Thorne 2024, arXiv:2403.07691): one stage from the base model, without a reference."""

from dataclasses import dataclass, fields
from typing import Any

from torch.nn.functional import cross_entropy, logsigmoid

from recipes.config import Stage
from recipes.data.pairs import load_rows
from recipes.engine.loss import LogProbs, Loss, log_odds
from recipes.engine.options import check_choice, check_engine
from recipes.engine.packing import PackedBatch
from recipes.engine.reference_free import OnOurIds, PackedReferenceFree, trl_orpo
from recipes.methods import METHODS
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def orpo_loss(policy: LogProbs, beta: float, ratio: str = "odds") -> Loss:
    """Return ORPO's loss of each pair, equations 3 to 7 of the paper:

        L = NLL(x, y_w) - beta * log sigmoid(log odds(y_w) - log odds(y_l)),   odds(y) = p / (1 - p)

    where y_w is the chosen and y_l the rejected response, and log p = log p(y | x) / |y|. Log-probs are *means* over a
    response's tokens, so length does not matter; NLL is the chosen dialogue's negative log-likelihood per token.

    Args:
        policy: log-probs under the trained model, the only one.
        beta: the weight of the odds ratio, the paper's lambda.
        ratio: "odds", or "probability" for log p(y_w) - log p(y_l) in the sigmoid: equation 16, in appendix B.
    """
    chosen, rejected = policy.mean_chosen, policy.mean_rejected
    log_odds_ratio = log_odds(chosen) - log_odds(rejected)
    log_ratio = log_odds_ratio if ratio == "odds" else chosen - rejected
    return Loss(
        preference=-beta * logsigmoid(log_ratio),
        nll=policy.nll,
        rewards=(beta * chosen, beta * rejected),
        metrics={"log_odds_ratio": logsigmoid(log_odds_ratio), "log_odds_chosen": log_odds_ratio},
    )


TRL_OPTIONS = {option.name for option in fields(trl_orpo.ORPOConfig)}  # the others are ours


@dataclass
class ORPOConfig(trl_orpo.ORPOConfig):
    """TRL's options for ORPO, the engine, and our options for its loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass
    ratio: str = "odds"  # or "probability": the paper's appendix B; `log_odds_*` still logs the odds
    nll_span: str = "full"  # prompt and response, as in TRL and the authors' code; or "completion": only the response
    # What the NLL term is averaged over: "update", all tokens of an optimizer step, however it is split into
    # micro-batches and over devices; "micro_batch", as in TRL; null: "update" if the engine is packed.
    nll_mean: str | None = None

    def __post_init__(self) -> None:
        """Check our options; TRL checks its own.

        Raises:
            ValueError: an option has an invalid value, or one that the engine does not support.
        """
        super().__post_init__()
        self.nll_mean = self.nll_mean or ("update" if self.engine == "packed" else "micro_batch")
        check_engine(self, heeded={option.name for option in fields(self)} - TRL_OPTIONS)
        check_choice("ratio", self.ratio, ("odds", "probability"))
        check_choice("nll_span", self.nll_span, ("full", "completion"))
        check_choice("nll_mean", self.nll_mean, ("update", "micro_batch"))
        if self.engine == "stock" and self.nll_mean == "update":
            raise ValueError("nll_mean=update needs engine=packed: TRL averages over each micro-batch by itself")
        if self.engine == "packed" and self.generate_during_eval:
            raise ValueError("generate_during_eval needs engine=stock: packed rows hold no padded prompts")


class StockORPOTrainer(OnOurIds, trl_orpo.ORPOTrainer):
    """TRL's forward pass and loss, and our options for its loss."""

    method = METHODS["orpo"]
    args: ORPOConfig

    def odds_ratio_loss(self, policy_chosen_logps: Any, policy_rejected_logps: Any) -> tuple[Any, ...]:
        """Return TRL's term and metrics, the term for the ratio that `ratio` names; TRL subtracts it."""
        losses, *metrics = super().odds_ratio_loss(policy_chosen_logps, policy_rejected_logps)
        if self.args.ratio == "probability":
            losses = self.beta * logsigmoid(policy_chosen_logps.float() - policy_rejected_logps.float())
        return losses, *metrics

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """Return TRL's log-probs, logits and NLL term, the last over the span that `nll_span` names."""
        outputs = super().concatenated_forward(model, batch)
        if self.args.nll_span == "full":
            return outputs
        labels = batch["chosen_labels"][:, 1:]
        logits = outputs[2][:, : labels.shape[1]]
        return (*outputs[:4], cross_entropy(logits.flatten(0, 1), labels.flatten()), *outputs[5:])


class PackedORPOTrainer(PackedReferenceFree, StockORPOTrainer):
    """`orpo_loss` on packed rows."""

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        self.nll_span, self.splits_alike = args.nll_span, args.nll_mean == "update"
        super().__init__(model, args, **options)

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `orpo_loss` of a batch."""
        return orpo_loss(policy, self.beta, self.args.ratio)


TRAINERS = {"packed": PackedORPOTrainer, "stock": StockORPOTrainer}


def train(stage: Stage) -> None:
    """Train one ORPO stage."""
    args = arguments(ORPOConfig, stage)
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
    main("recipes.orpo")
