"""KTO (Ethayarajh et al. 2024, arXiv:2402.01306): each response is good or bad by itself, against a reference point."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import trl
from torch import Tensor
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from recipes.config import Stage
from recipes.data.pairs import load_rows
from recipes.engine.loss import LogProbs, Loss
from recipes.engine.mismatched import mismatched
from recipes.engine.options import check_choice, check_engine
from recipes.engine.packing import PackedBatch, Pair, balance, pack
from recipes.engine.reference import ReferenceTrainer
from recipes.engine.reference_point import KeptPoint
from recipes.engine.tolerance import evaluating
from recipes.engine.trl import rename_metrics
from recipes.methods import METHODS
from recipes.training.arguments import arguments
from recipes.training.cost import Cost
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def kto_loss(
    policy: LogProbs, reference: LogProbs, point: Tensor, beta: float, desirable: float = 1.0, undesirable: float = 1.0
) -> Loss:
    """Return KTO's loss of each pair, the mean over its responses of the paper's equation 8 (7 in version 1):

        L(y_w) = desirable * (1 - sigmoid(beta * (r(y_w) - z))),    r(y) = log p(y | x) - log p_ref(y | x)
        L(y_l) = undesirable * (1 - sigmoid(beta * (z - r(y_l))))

    where y_w is the chosen and y_l the rejected response, and log-probs are *sums* over a response's tokens. A response
    is not compared with the other one of its pair, and need not have one: what has no tokens is left out.

    Args:
        policy: log-probs under the trained model.
        reference: log-probs of the same pairs under the frozen initial checkpoint.
        point: the reference point z of shape (), how far the policy has moved from the reference: an estimate of their
            KL divergence (`PackedKTOTrainer.begin_step`). No gradient passes through it.
        beta: how strongly the policy is held to the reference.
        desirable: the weight of chosen responses, TRL's `desirable_weight`.
        undesirable: the weight of rejected ones.
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    of_chosen = desirable * (1 - torch.sigmoid(beta * (chosen - point)))
    of_rejected = undesirable * (1 - torch.sigmoid(beta * (point - rejected)))
    there = policy.chosen_tokens > 0, policy.rejected_tokens > 0
    return Loss(
        preference=(of_chosen * there[0] + of_rejected * there[1]) / (there[0].int() + there[1].int()).clamp(min=1),
        rewards=(beta * chosen, beta * rejected),
        metrics={"kl": point.expand_as(chosen)},
    )


@dataclass
class KTOConfig(trl.KTOConfig):
    """TRL's options for KTO, and which engine computes its loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass, with a reference point for each micro-batch
    # TRL's trainer fixes the order for its mismatched responses; ours are made in each optimizer step.
    train_sampling_strategy: str = "random"

    def __post_init__(self) -> None:
        """Check the engine and the loss; TRL checks its own options.

        Raises:
            ValueError: there is no such engine or loss, or the engine or the loss does not support an option.
        """
        if self.loss_type == "apo_zero_unpaired":
            raise ValueError("loss_type=apo_zero_unpaired: on pairs that is DPO's dpo.loss_type=[apo_zero]")
        check_choice("loss_type", self.loss_type, ("kto",))
        super().__post_init__()
        check_engine(self, heeded=("desirable_weight", "undesirable_weight"))
        if self.precompute_ref_log_probs:
            raise ValueError(
                "precompute_ref_log_probs: the reference model also scores each step's mismatched responses"
            )
        alone = self.eval_strategy != "no" and self.per_device_eval_batch_size < 2
        if self.engine == "stock" and alone:
            raise ValueError(
                f"per_device_eval_batch_size={self.per_device_eval_batch_size}: TRL's reference point needs another "
                "pair of the same micro-batch; use at least 2, or engine=packed"
            )
        if self.engine == "stock" and self.per_device_train_batch_size < 2:
            raise ValueError(
                "hardware.per_device_batch=1: TRL's reference point needs another pair of the same micro-batch; use at "
                "least 2, or engine=packed"
            )


class Unpaired:
    """A collator for TRL's trainer: the chosen, then the rejected responses of a micro-batch's pairs.

    A prompt's mismatched responses are those of the row before it, as in `mismatched`; without pairs, TRL's own.
    """

    def __init__(self, pad_token_id: int, max_length: int | None, multiple: int | None) -> None:
        pad: Callable[[list[dict[str, Any]]], dict[str, Any]]
        pad = DataCollatorForUnpairedPreference(pad_token_id, max_length, multiple)
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate `rows`."""
        following = [*rows[1:], *rows[:1]]
        batch = self.pad(responses(rows, rows))
        *others, last = responses(following, rows)
        mismatched = self.pad([last, *others])
        return batch | {f"KL_{name}": mismatched[name] for name in ("input_ids", "attention_mask", "completion_mask")}


def responses(prompts: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the chosen, then the rejected responses of `rows`, as far as there are any, to the `prompts` of others."""
    return [
        {"prompt_ids": prompt["prompt_ids"], "completion_ids": row[f"{answer}_ids"], "label": answer == "chosen"}
        for answer in ("chosen", "rejected")
        for prompt, row in zip(prompts, rows, strict=True)
        if row[f"{answer}_ids"]
    ]


class StockKTOTrainer(trl.KTOTrainer):
    """TRL's forward pass and loss, on our token ids."""

    method = METHODS["kto"]

    def __init__(self, model: Any, args: Any, processing_class: Any, **options: Any) -> None:
        collator = options.pop("data_collator", None) or Unpaired(
            processing_class.pad_token_id, args.max_length, args.pad_to_multiple_of
        )
        asked, args.train_sampling_strategy = args.train_sampling_strategy, "sequential"
        super().__init__(model, args=args, processing_class=processing_class, data_collator=collator, **options)
        args.train_sampling_strategy = asked

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under names that say what is logged."""
        rename_metrics(logs, self, self.method)
        super().log(logs, start_time)


class PackedKTOTrainer(ReferenceTrainer, StockKTOTrainer):
    """`kto_loss` on packed rows, with one reference point for a whole optimizer step."""

    args: KTOConfig

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        self.point = torch.zeros((), device=args.device)  # held-out pairs are seen from the last step's
        args.loss_type = (
            "apo_zero_unpaired"  # TRL would refuse micro-batches of one pair, and make responses of its own
        )
        super().__init__(model, args, **options)
        self.loss_type = args.loss_type = "kto"
        self.add_callback(KeptPoint(self))

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `kto_loss` of a batch."""
        args = self.args
        weights = args.desirable_weight, args.undesirable_weight
        return kto_loss(policy, self.reference(batch), self.point.to(policy.chosen), self.beta, *weights)

    @torch.no_grad()
    def begin_step(self, batches: list[list[Pair]]) -> None:
        """Set the reference point: the mean of log p - log p_ref of mismatched responses, zero at least.

        Each prompt gets the responses of the row before it in the optimizer step (the paper's section 4). A last step
        of a single row has no other's, and keeps the point of the step before.
        """
        model: Any = self.model
        sums = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        for pairs in balance(mismatched(batches, self.accelerator.process_index, self.args.max_length)):
            batch = pack(pairs, self.nll_span).to(self.args.device)
            self.count(batch.input_ids.numel())
            with self.accelerator.autocast(), evaluating(model):
                policy = self.log_probs(model, batch)
            reference = self.score_reference(batch)
            moved = policy.chosen - reference.chosen + policy.rejected - reference.rejected
            rows = batch.counted.amax(0)
            sums += torch.stack([(moved * rows).sum(), batch.counted.sum(), rows.sum()]).double()
        total, count, rows = self.summed(sums)
        if rows > 1:
            self.point = (total / count).clamp(min=0)

    def count(self, tokens: int) -> None:
        """Count tokens that the policy reads without learning from them."""
        if meter := getattr(self, "meter", None):  # there is none outside of a stage's training
            meter.cost.add(Cost(computed_tokens=tokens, inference_tokens=tokens))


TRAINERS = {"packed": PackedKTOTrainer, "stock": StockKTOTrainer}


def train(stage: Stage) -> None:
    """Train one KTO stage."""
    args = arguments(KTOConfig, stage)
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
    main("recipes.kto")
