"""Query a reward model, trained here or foreign, for the rewards of responses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from recipes.config import Stage, UserError
from recipes.data.chat import Message
from recipes.system.hub import NO_CODE, WEIGHTS, reason
from recipes.training.model import device


@dataclass
class RewardModel:
    """A classifier with one output, the reward of a whole dialogue; higher is better."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    foreign: bool  # it has its own tokenizer and chat template

    def of_ids(self, dialogues: list[list[int]], batch: int = 64) -> Tensor:
        """Return the rewards of dialogues given as the ids of the model's training, shape (dialogues,), float32."""
        order = sorted(range(len(dialogues)), key=lambda row: len(dialogues[row]))  # so that little is padded
        batches = [order[start : start + batch] for start in range(0, len(order), batch)]
        found = torch.cat([self.forward([dialogues[row] for row in rows]) for rows in batches])
        return found[torch.tensor(order).argsort().to(found.device)]

    def of_texts(self, dialogues: list[list[Message]], batch: int = 64) -> Tensor:
        """Return the rewards of dialogues given as messages, with the model's own chat template; shape (dialogues,)."""
        found: Any = self.tokenizer.apply_chat_template(dialogues, tokenize=True, return_dict=True)
        return self.of_ids(found["input_ids"], batch)

    @torch.no_grad()
    def forward(self, dialogues: list[list[int]]) -> Tensor:
        """Return the rewards of one batch, padded on the right: the outputs at the last token before padding."""
        ids = [torch.tensor(dialogue) for dialogue in dialogues]
        masks = [torch.ones_like(row) for row in ids]
        padded = pad_sequence(ids, batch_first=True, padding_value=self.model.config.pad_token_id)
        inputs = {"input_ids": padded, "attention_mask": pad_sequence(masks, batch_first=True)}
        return self.model(**{name: value.to(self.model.device) for name, value in inputs.items()}).logits[:, 0].float()


def load_reward_model(stage: Stage) -> RewardModel:
    """Return the reward model of an RLOO stage: the one trained before it, or the named one.

    Raises:
        UserError: see `load_classifier`.
    """
    assert stage.reward_model is not None
    foreign = stage.options["reward_model"] is not None
    dtype = stage.model_options["dtype"]
    return load_classifier(stage.reward_model, stage.reward_revision, foreign, dtype=dtype)


def load_classifier(path: str, revision: str | None, foreign: bool, **options: Any) -> RewardModel:
    """Return the classifier at `path`, a directory or Hub id, frozen, on this process's device.

    Raises:
        UserError: it cannot be loaded, has not exactly one output, or is foreign and has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, **NO_CODE)
        options |= {"revision": revision, **WEIGHTS}
        model: Any = AutoModelForSequenceClassification.from_pretrained(path, **options)
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
        raise UserError(f"{path} has no loadable reward model ({reason(error)}): name another one") from None
    if model.config.num_labels != 1 or not hasattr(model, "score"):
        raise UserError(f"{path} is no reward model: name a sequence classifier with one output")
    if foreign and not tokenizer.chat_template:
        raise UserError(f"{path} has no chat template, which a reward model needs: name one that has")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return RewardModel(model.to(device()).eval().requires_grad_(False), tokenizer, foreign)


def check_template(path: str, revision: str | None, prompts: Iterable[list[Message]]) -> None:
    """Write dialogues that begin with `prompts` by a named reward model's chat template; this needs no weights.

    Raises:
        UserError: the template rejects one: it has no system turns, for example.
    """
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, **NO_CODE)
    for prompt in prompts:
        try:
            tokenizer.apply_chat_template(answered(prompt, "Yes."), tokenize=False)
        except Exception as error:  # a template is a program, and raises what it likes
            asked = " ".join(str(prompt[-1]["content"]).split())[:60]
            raise UserError(
                f"rloo.reward_model={path} cannot read the dialogue that ends with {asked!r} "
                f"({' '.join(str(error).split())}): name another reward model, or drop such rows"
            ) from None


def answered(prompt: list[Message], answer: str) -> list[Message]:
    """Return a dialogue with its response."""
    return [*prompt, {"role": "assistant", "content": answer}]
