"""Reward model (Bradley & Terry 1952): learn to rank chosen above rejected responses; the second of RLHF's stages."""

from dataclasses import dataclass
from typing import Any

import torch
import trl
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from recipes.config import Stage
from recipes.data.pairs import comparison, load_rows
from recipes.engine.loss import Loss
from recipes.engine.metrics import Extremes
from recipes.engine.options import check_engine
from recipes.engine.packing import PackedBatch, Pair, collate
from recipes.engine.self_check import add_checked_rewards
from recipes.engine.trainer import PackedTrainer
from recipes.methods import METHODS
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def reward_loss(chosen: Tensor, rejected: Tensor, center: float | None = None) -> Loss:
    """Return the loss of each pair, equation 1 of Ouyang et al. (2022, arXiv:2203.02155) for two responses to a prompt:

        L = -log sigmoid(r(x, y_w) - r(x, y_l)) + center * (r(x, y_w) + r(x, y_l))^2

    where y_w is the chosen and y_l the rejected response, and r the single output of a classifier of the whole
    dialogue, at its last token.

    Args:
        chosen: the rewards of the chosen responses, shape (pairs,).
        rejected: those of the rejected ones.
        center: TRL's `center_rewards_coefficient`, which keeps rewards near zero (arXiv:2312.09244, equation 2).
    """
    loss = -logsigmoid(chosen - rejected)
    if center is not None:
        loss = loss + center * (chosen + rejected) ** 2
    accuracy = (chosen > rejected).to(chosen.dtype)
    metrics = {"accuracy": accuracy, "margin": chosen - rejected, "mean_reward": (chosen + rejected) / 2}
    return Loss(preference=loss, rewards=(chosen, rejected), metrics=metrics)


@dataclass
class RewardConfig(trl.RewardConfig):
    """TRL's options for reward models, and which engine computes the loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass

    def __post_init__(self) -> None:
        """Check the engine; TRL checks its own options.

        Raises:
            ValueError: there is no such engine, or it does not support an option.
        """
        super().__post_init__()
        check_engine(self, heeded=("center_rewards_coefficient",))


class StockRewardTrainer(trl.RewardTrainer):
    """TRL's forward pass and loss, on our token ids under the column names of a tokenized data set."""

    def __init__(
        self, model: Any, args: Any, train_dataset: Dataset, eval_dataset: Dataset | None = None, **options: Any
    ) -> None:
        held_out = None if eval_dataset is None else comparisons(eval_dataset)
        options |= {"train_dataset": comparisons(train_dataset), "eval_dataset": held_out}
        super().__init__(model, args=args, **options)


def comparisons(rows: Dataset) -> Dataset:
    """Return both whole dialogues of each pair, in the format of TRL's reward trainer."""
    return rows.map(comparison, remove_columns=["prompt_ids"])


class PackedRewardTrainer(PackedTrainer, trl.RewardTrainer):
    """`reward_loss` on packed rows."""

    method = METHODS["reward"]
    nll_span = "last"
    args: RewardConfig

    def __init__(self, model: Any, args: Any, processing_class: Any, **options: Any) -> None:
        self.extremes = {"train": Extremes(), "eval": Extremes()}
        options["data_collator"] = UpToReward(processing_class.pad_token_id)
        super().__init__(model, args, processing_class=processing_class, **options)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def enable_scoring(self) -> None:
        """Let the classifier score packed rows.

        Raises:
            UserError: the model does not support it.
        """
        add_checked_rewards(self.model, self.args.bf16 or self.args.fp16)

    def begin_step(self, batches: list[list[Pair]]) -> None:
        """Begin an optimizer step's smallest and largest reward."""
        self.extremes["train"].begin_step()

    def loss_of(self, model: nn.Module, batch: PackedBatch) -> tuple[Loss, dict[str, Tensor]]:
        """Return `reward_loss` of a batch and its metrics, from one forward pass."""
        chosen, rejected = model(**batch.model_inputs()).view(2, -1)
        found = reward_loss(chosen, rejected, self.args.center_rewards_coefficient)
        return found, dict(found.metrics)

    def noted_loss(self, model: nn.Module, batch: PackedBatch, mode: str) -> Loss:
        """Return a batch's loss, and note its smallest and largest reward too."""
        found = super().noted_loss(model, batch, mode)
        assert found.rewards is not None
        self.extremes[mode].add(torch.stack(found.rewards), batch.weights)
        return found

    def taken(self, mode: str) -> dict[str, float]:
        """Return TRL's metrics."""
        found = self.extremes[mode].take(self.accelerator.gather)
        return super().taken(mode) | (dict(zip(("min_reward", "max_reward"), found, strict=True)) if found else {})


@dataclass(frozen=True)
class UpToReward:
    """A collator that ends responses where Transformers' classifiers score them: at the last token that is no padding.

    Later tokens change nothing before them. There are some only where the profile's pad token is a stop token.
    """

    pad: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, list[Pair]]:
        """Collate `rows`."""
        sides = ("chosen_ids", "rejected_ids")
        return collate([row | {side: self.cut(row[side]) for side in sides} for row in rows])

    def cut(self, ids: list[int]) -> list[int]:
        """Return `ids` without the padding at their end; at least one."""
        end = len(ids)
        while end > 1 and ids[end - 1] == self.pad:
            end -= 1
        return ids[:end]


TRAINERS = {"packed": PackedRewardTrainer, "stock": StockRewardTrainer}


def train(stage: Stage) -> None:
    """Train one reward model."""
    args = arguments(RewardConfig, stage)
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
    main("recipes.reward")
