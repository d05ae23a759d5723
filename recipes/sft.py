"""SFT: imitate the chosen responses; the baseline, and the first of DPO's two stages."""

from dataclasses import dataclass
from typing import Any

import trl
from datasets import Dataset

from recipes.config import Stage
from recipes.data.pairs import demonstrations, load_rows
from recipes.engine.loss import LogProbs, Loss
from recipes.engine.options import check_engine
from recipes.engine.packing import PackedBatch, collate_demonstrations
from recipes.engine.trainer import PackedTrainer
from recipes.methods import METHODS
from recipes.training.arguments import arguments
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.tokenizer import load_tokenizer


def sft_loss(policy: LogProbs) -> Loss:
    """Return SFT's loss, the negative log-likelihood of the chosen responses:

        L = -1/N * sum of log p(y | x),   N: all tokens of the optimizer step's responses

    With `completion_only_loss=false` the prompts' tokens count too, in the sum and in N.
    """
    return Loss(nll=policy.nll)


@dataclass
class SFTConfig(trl.SFTConfig):
    """TRL's options for SFT, the engine, the data, and `disable_dropout`, which TRL's SFT lacks."""

    disable_dropout: bool = True
    engine: str = "packed"  # or "stock": TRL's own forward pass
    dataset: str | None = None  # demonstrations to train on instead of the pairs' chosen responses

    def __post_init__(self) -> None:
        """Check the engine; TRL checks its own options.

        Raises:
            ValueError: the engine is unknown, or does not support an option.
        """
        super().__post_init__()
        check_engine(self)


class StockSFTTrainer(trl.SFTTrainer):
    """TRL's forward pass and loss, on our token ids under the column names of a tokenized data set."""

    def __init__(
        self, model: Any, args: Any, train_dataset: Dataset, eval_dataset: Dataset | None = None, **options: Any
    ) -> None:
        held_out = None if eval_dataset is None else demonstrations(eval_dataset)
        options |= {"train_dataset": demonstrations(train_dataset), "eval_dataset": held_out}
        super().__init__(model, args=args, **options)


class PackedSFTTrainer(PackedTrainer, trl.SFTTrainer):
    """`sft_loss` on packed rows."""

    method = METHODS["sft"]

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        self.nll_span = "completion" if args.completion_only_loss else "full"
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        super().__init__(model, args, data_collator=collate_demonstrations, **options)

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return `sft_loss` of a batch."""
        return sft_loss(policy)


TRAINERS = {"packed": PackedSFTTrainer, "stock": StockSFTTrainer}


def train(stage: Stage) -> None:
    """Train one SFT stage."""
    args = arguments(SFTConfig, stage)
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
    main("recipes.sft")
