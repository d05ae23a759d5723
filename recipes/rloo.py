"""RLOO: answer the prompts, and make likelier what the reward model prefers; the last of RLHF's stages."""

from recipes.config import Stage
from recipes.data.prepare import load_prompts
from recipes.reinforce import RLOOConfig, RLOOTrainer
from recipes.rewards import load_reward_model
from recipes.training.loop import arguments, fit, main
from recipes.training.model import load_model, load_tokenizer, peft_config


def train(stage: Stage) -> None:
    """Train one RLOO stage."""
    args = arguments(RLOOConfig, stage)
    args.model_init_kwargs = {"revision": stage.start_revision}  # of the reference model, which TRL loads by its name
    tokenizer = load_tokenizer(stage.model, stage.start, stage.start_revision)
    prompts = load_prompts(stage.pairs)
    trainer = RLOOTrainer(
        load_model(stage, tokenizer),
        load_reward_model(stage),
        args=args,
        train_dataset=prompts["train"],
        eval_dataset=prompts["test"],
        processing_class=tokenizer,
        peft_config=peft_config(stage),
    )
    fit(trainer, stage)


if __name__ == "__main__":
    main(train)
