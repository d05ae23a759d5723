"""DPO: prefer chosen to rejected, held to the SFT model that this stage starts from; the second of two stages."""

from recipes.config import Stage
from recipes.data.prepare import load_pairs
from recipes.engines import DPO_ENGINES
from recipes.trainers import DPOConfig
from recipes.training.loop import arguments, fit, main
from recipes.training.model import load_model, load_tokenizer, peft_config


def train(stage: Stage) -> None:
    """Train one DPO stage."""
    args = arguments(DPOConfig, stage)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    rows = load_pairs(stage.pairs)
    trainer = DPO_ENGINES[args.engine](
        load_model(stage, tokenizer),
        args=args,
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        processing_class=tokenizer,
        peft_config=peft_config(stage),
    )
    fit(trainer, stage)


if __name__ == "__main__":
    main(train)
