"""RLOO (Ahmadian et al. 2024, arXiv:2402.14740): sample responses, and make those with a high reward more likely.

The last of RLHF's stages; TRL has removed PPO, and RLOO is its stable trainer with a reward model. For each prompt k
responses y_1 … y_k are sampled. The loss of a response is TRL's, in `trl.RLOOTrainer._compute_loss`, with advantages A
from `_generate_and_score_completions`:

    L_i = -min(w_i * A_i, clip(w_i, 1 - epsilon, 1 + epsilon) * A_i),   w_i = p(y_i | x) / p_old(y_i | x)
    A_i = R_i - mean of the other k - 1 rewards,   R_i = r(x, y_i) - beta * log(p_old(y_i | x) / p_ref(y_i | x))

where p_old is the policy that sampled, p_ref the SFT model, and r the reward model. At the first step on a sample w is
1, and the gradient is REINFORCE's with a leave-one-out baseline.
"""

from dataclasses import dataclass, replace
from typing import Any

import trl
from datasets import Dataset
from torch import Tensor
from trl.trainer.utils import RepeatSampler

from recipes.config import Stage, UserError
from recipes.data.pairs import load_prompts
from recipes.training.arguments import arguments
from recipes.training.cost import Cost, Meter
from recipes.training.flops import Reading, forward
from recipes.training.loop import fit, main
from recipes.training.model import load_model, peft_config
from recipes.training.reading import matrices, padded
from recipes.training.reward_model import RewardModel, answered, load_reward_model
from recipes.training.tokenizer import load_tokenizer


@dataclass
class RLOOConfig(trl.RLOOConfig):
    """TRL's options for RLOO, and its reward model."""

    reward_model: str | None = None  # a directory or Hub id of a sequence classifier; null: the reward stage's

    def __post_init__(self) -> None:
        """Reject options that our rows do not support; TRL checks its own options.

        Raises:
            ValueError: such an option is set.
        """
        super().__post_init__()
        if self.log_completions or self.use_vllm:
            raise ValueError("log_completions and use_vllm read prompts as text, and ours are ids: leave them off")
        if self.chat_template_kwargs:
            raise ValueError("chat_template_kwargs would do nothing: prompts are rendered before; leave them out")


class PromptSampler(RepeatSampler):
    """TRL's order of prompts, except that it depends on the epoch's number, so that a resumed epoch keeps its order."""

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch`; called by the trainer."""
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + epoch)


class RLOOTrainer(trl.RLOOTrainer):
    """TRL's trainer on rows whose `prompt` is a list of ids, the same as for other methods; it counts its costs."""

    meter: Meter  # set by `recipes.training.loop`
    model: Any
    ref_model: Any
    args: Any
    processing_class: Any
    num_generations: int
    train_dataset: Any

    def __init__(self, model: Any, reward: RewardModel, args: RLOOConfig, train_dataset: Dataset, **options: Any):
        """Make the trainer.

        Raises:
            UserError: there are fewer prompts than one optimizer step takes.
        """
        at_once = args.generation_batch_size // args.num_generations  # type: ignore[operator]
        if len(train_dataset) < at_once:
            raise UserError(
                f"{len(train_dataset)} prompts are fewer than the {at_once} of one RLOO batch: lower batch_size"
            )
        # TRL adds the tokenizer's EOS; evaluation stops only at the profile's tokens. Models for training are loaded
        # without a cache, which would make sampling quadratic.
        stops = model.generation_config.eos_token_id
        given: Any = args.generation_kwargs or {}
        args.generation_kwargs = {**given, "eos_token_id": stops, "use_cache": True}
        super().__init__(model, ask(reward), args=args, train_dataset=train_dataset, **options)  # type: ignore[arg-type]
        self.eos_token_ids = stops
        reference = self.model if self.ref_model is None else self.ref_model  # the policy without its adapters
        self.reward, self.reference = matrices(reward.model), matrices(reference) if args.beta else None

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        return PromptSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            shuffle=bool(self.shuffle_dataset),
            seed=self.args.seed,
        )

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Count what is computed without a gradient: sampling, old log-probs, reference and reward model."""
        found: Any = super()._generate_and_score_completions(inputs)
        if self.model.training:
            read = dialogues_of(found)
            cost = Cost(computed_tokens=2 * int(read.tokens), inference_tokens=2 * int(read.tokens))
            cost.generated_tokens = int((found["completion_ids"] != self.processing_class.pad_token_id).sum())
            cost.inference_flops = int(2 * forward(matrices(self.model), read))
            frozen = forward(self.reward, replace(read, scored=read.tokens))  # Transformers scores every position
            cost.frozen_flops = int(frozen + (forward(self.reference, read) if self.reference else 0))
            self.meter.cost.add(cost)
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Count the micro-batch."""
        if self.model.training:
            rows, read = len(inputs["prompt_ids"]), dialogues_of(inputs)
            tokens = int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum())
            cost = Cost(rows // self.num_generations, tokens, int(read.tokens))
            cost.scored_tokens, cost.attended = int(read.scored), int(read.attended)
            self.meter.cost.add(cost)
        return super()._compute_loss(model, inputs)


def dialogues_of(batch: dict[str, Any]) -> Reading:
    """Return what one forward pass over prompts with their responses reads: logits of the responses alone."""
    rows, width = batch["completion_ids"].shape
    return replace(padded(rows, batch["prompt_ids"].shape[1] + width), scored=rows * width)


def ask(reward: RewardModel) -> Any:
    """Return TRL's reward function: the reward model's score of each prompt with its response.

    A model trained here reads the sampled ids, as it read the pairs' ids. A foreign one reads text.
    """

    def reward_model(
        prompts: list[list[int]], completions: list[str], completion_ids: list[list[int]], messages: Any, **_: Any
    ) -> list[float]:
        if reward.foreign:
            return reward.of_texts([answered(*row) for row in zip(messages, completions, strict=True)]).tolist()
        return reward.of_ids([prompt + answer for prompt, answer in zip(prompts, completion_ids, strict=True)]).tolist()

    return reward_model


def train(stage: Stage) -> None:
    """Train one RLOO stage."""
    args = arguments(RLOOConfig, stage)
    args.model_init_kwargs = {"revision": stage.start_revision}  # for the reference model, which TRL loads by name
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
    main("recipes.rloo")
