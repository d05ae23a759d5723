"""Reward model (Bradley & Terry 1952): learn to rank chosen above rejected responses; the second of RLHF's stages.

The loss of each pair is TRL's, in `trl.RewardTrainer.compute_loss`:

    L = -log sigmoid(r(x, y_w) - r(x, y_l))

where y_w is the chosen and y_l the rejected response, and r the single output of a classifier of the whole dialogue, at
its last token. Equation 1 of Ouyang et al. (2022, arXiv:2203.02155) with two responses to a prompt.
"""

from typing import Any

import trl
from datasets import Dataset

from recipes.config import Stage
from recipes.data.prepare import comparison, load_rows
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer

RewardConfig = trl.RewardConfig


class RewardTrainer(trl.RewardTrainer):
    """TRL's trainer on our token ids, under the column names of a tokenized data set."""

    def __init__(
        self, model: Any, args: Any, train_dataset: Dataset, eval_dataset: Dataset | None = None, **options: Any
    ) -> None:
        held_out = None if eval_dataset is None else comparisons(eval_dataset)
        options |= {"train_dataset": comparisons(train_dataset), "eval_dataset": held_out}
        super().__init__(model, args=args, **options)


def comparisons(rows: Dataset) -> Dataset:
    """Return both whole dialogues of each pair, in the format of TRL's reward trainer."""
    return rows.map(comparison, remove_columns=["prompt_ids"])


def train(stage: Stage) -> None:
    """Train one reward model."""
    args = arguments(RewardConfig, stage)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    rows = load_rows(stage)
    trainer = RewardTrainer(
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
