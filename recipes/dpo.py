"""DPO (Rafailov et al. 2023, arXiv:2305.18290): the second of two stages, with the SFT model as its reference."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
import trl
from peft import PeftModel
from torch.nn.functional import logsigmoid

from recipes.config import Stage, scores_before
from recipes.data.pairs import load_rows
from recipes.engine.dpo_losses import DPO, LIKELIHOOD, RELATIVES, SORTED, Ratios
from recipes.engine.loss import LogProbs, Loss
from recipes.engine.options import check_choice, check_engine
from recipes.engine.packing import PackedBatch
from recipes.engine.reference import ReferenceTrainer
from recipes.engine.trl import rename_metrics
from recipes.methods import METHODS
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def dpo_loss(policy: LogProbs, reference: LogProbs, beta: float) -> Loss:
    """Return DPO's loss of each pair, equation 7 of the paper:

        L = -log sigmoid(r(y_w) - r(y_l)),   r(y) = beta * (log p(y | x) - log p_ref(y | x))

    where y_w is the chosen and y_l the rejected response. Log-probs are *sums* over a response's tokens, so long
    responses weigh more.

    It is TRL's `loss_type=["sigmoid"]`, by which `engine=stock` computes it: change both together. Where the models
    are equal it is ln 2; `recipes.training.checks` refuses another first value.

    Args:
        policy: log-probs under the trained model.
        reference: log-probs of the same pairs under the frozen SFT model.
        beta: how strongly the policy is held to the reference.
    """
    chosen = beta * (policy.chosen - reference.chosen)
    rejected = beta * (policy.rejected - reference.rejected)
    return Loss(preference=-logsigmoid(chosen - rejected), rewards=(chosen, rejected))


def weighted_loss(policy: LogProbs, reference: LogProbs, weights: dict[str, float], **options: float) -> Loss:
    """Return the weighted sum of `dpo_loss` and its relatives (recipes/engine/dpo_losses.py), by TRL's names.

    `sft` adds the chosen response's negative log-likelihood per token, as in MPO and in Llama 3's DPO.

    Args:
        policy: log-probs under the trained model.
        reference: log-probs of the same pairs under the frozen SFT model.
        weights: `loss_type` -> its weight.
        options: `beta`, and what the relatives have besides.
    """
    own, pair = dpo_loss(policy, reference, options["beta"]), Ratios.of(policy, reference, **options)
    terms = [
        weight * (own.preference if name == DPO else RELATIVES[name](pair))  # type: ignore[operator]
        for name, weight in weights.items()
        if name != LIKELIHOOD
    ]
    return replace(
        own,
        preference=torch.stack(terms).sum(0) if terms else None,
        nll=policy.nll if LIKELIHOOD in weights else None,
        nll_weight=weights.get(LIKELIHOOD, 1.0),
    )


@dataclass
class DPOConfig(trl.DPOConfig):
    """TRL's options for DPO, and which engine computes its loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass, and its losses that packed rows have not
    # Null: before the training if it reads every pair, so that no second model is held; else in each step.
    precompute_ref_log_probs: bool | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check the engine and the loss; TRL checks its own options.

        Raises:
            ValueError: there is no such engine or loss, or the engine does not support an option.
        """
        super().__post_init__()
        check_engine(self, heeded=("loss_type", "loss_weights", "label_smoothing", "discopop_tau"))
        for name in self.loss_type:
            check_choice("loss_type", name, (DPO, *RELATIVES, LIKELIHOOD, *SORTED))
            if self.engine == "packed" and name in SORTED:
                raise ValueError(f"loss_type={name} needs engine=stock: it sorts the pairs of each micro-batch")
        if len({*self.loss_type}) < len(self.loss_type):
            raise ValueError(f"loss_type={self.loss_type}: name each once, and give its weight in loss_weights")
        if self.label_smoothing and not {"robust", "exo_pair", *SORTED} & {*self.loss_type}:
            raise ValueError(f"label_smoothing={self.label_smoothing}: only robust, exo_pair and aot have it")
        if self.discopop_tau != trl.DPOConfig.discopop_tau and "discopop" not in self.loss_type:
            raise ValueError(f"discopop_tau={self.discopop_tau}: only loss_type=[discopop] has it")
        if "robust" in self.loss_type and not 0 < self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing={self.label_smoothing}: robust needs more than 0 and less than 0.5")
        if "exo_pair" in self.loss_type and not 0 < self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}: exo_pair needs more than 0, such as 0.001")


class StockDPOTrainer(trl.DPOTrainer):
    """TRL's forward pass and loss, on our token ids in the columns that TRL would create."""

    method = METHODS["dpo"]
    reference_seconds = 0.0  # seconds of the reference model's pass before the training

    def __init__(self, model: Any, args: Any, train_dataset: Any, **options: Any) -> None:
        batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        adapters = options.get("peft_config") is not None or isinstance(model, PeftModel)
        args.precompute_ref_log_probs = scores_before(vars(args), adapters, batch_size, len(train_dataset))
        super().__init__(model, args=args, train_dataset=train_dataset, **options)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        started = time.monotonic()
        dataset = super()._precompute_ref_logps(dataset, name, batch_size)
        if name == "train":
            self.reference_seconds = time.monotonic() - started
        return dataset

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under names that say what is logged."""
        rename_metrics(logs, self, self.method)
        super().log(logs, start_time)


class PackedDPOTrainer(ReferenceTrainer, StockDPOTrainer):
    """`dpo_loss`, or whatever losses `loss_type` names, on packed rows."""

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return the loss of a batch."""
        options = {name: getattr(self.args, name) for name in ("beta", "label_smoothing", "discopop_tau")}
        weights = dict(zip(self.loss_types, self.loss_weights, strict=True))
        return weighted_loss(policy, self.reference(batch), weights, **options)


TRAINERS = {"packed": PackedDPOTrainer, "stock": StockDPOTrainer}


def train(stage: Stage) -> None:
    """Train one DPO stage."""
    args = arguments(DPOConfig, stage)
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
    main("recipes.dpo")
