"""ORPO: imitate the chosen answers and prefer them to the rejected, at once; one stage, no reference model."""

from recipes.config import Stage
from recipes.data.prepare import load_pairs
from recipes.engines import ORPO_ENGINES
from recipes.trainers import ORPOConfig
from recipes.training.loop import arguments, fit, main
from recipes.training.model import load_model, load_tokenizer, peft_config


def train(stage: Stage) -> None:
    """Train one ORPO stage."""
    args = arguments(ORPOConfig, stage)
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    rows = load_pairs(stage.pairs)
    trainer = ORPO_ENGINES[args.engine](
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
