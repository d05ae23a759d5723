"""A reward model as a judge of responses: one that a stage here has trained, or a foreign one."""

from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from recipes.config import UserError, read_config
from recipes.data.chat import Refused, Renderer
from recipes.profiles import Model
from recipes.system.hub import NO_CODE
from recipes.training.reward_model import RewardModel, load_classifier
from recipes.training.tokenizer import load_tokenizer


class Judge:
    """A reward model and how it reads a dialogue: in the ids of its training, or by its own template."""

    def __init__(self, path: Path | str) -> None:
        """Name it: a directory, or of the hub `organization/name@commit`. Weights are loaded with the first query."""
        self.stage = next(
            (place for place in (Path(path), Path(path).parent) if (place / "config.yaml").is_file()), None
        )
        self.name = str(self.stage or path)
        place = str(self.stage / "model" if self.stage else path)
        self.place, _, commit = (place, "", "") if Path(place).exists() else place.partition("@")
        self.revision = commit or None

    @cached_property
    def reward(self) -> RewardModel:
        """The model.

        Raises:
            UserError: it cannot be loaded, or is no reward model.
        """
        return load_classifier(self.place, self.revision, foreign=self.stage is None)

    def give_back(self) -> None:
        """Give back the memory of the weights; the next query loads them again."""
        self.__dict__.pop("reward", None)

    @cached_property
    def renderer(self) -> Renderer:
        """What a stage here read its pairs with."""
        profile = Model(**read_config(Path(self.name))["model"])
        return Renderer(load_tokenizer(profile, self.place), profile)

    @cached_property
    def tokenizer(self) -> Any:
        """A foreign model's tokenizer."""
        return AutoTokenizer.from_pretrained(self.place, revision=self.revision, **NO_CODE)

    def rewards(self, prompts: list[Any], answers: list[dict[str, Any]]) -> list[float]:
        """Return what each answer (`text`, `stopped`) to its prompt (messages) is worth.

        Raises:
            UserError: the model cannot be loaded, or its template rejects a dialogue.
        """
        reward = self.reward
        return reward.of_ids(self.read(prompts, answers)).tolist()

    def right(self, pairs: Any) -> list[float]:
        """Return, for each pair, 1 where the chosen response has the higher reward, ½ where both have the same."""
        chosen, rejected = (self.rewards(*given(pairs, side)) for side in ("chosen", "rejected"))
        return [(1 + (ours > theirs) - (ours < theirs)) / 2 for ours, theirs in zip(chosen, rejected, strict=True)]

    def read(self, prompts: list[Any], answers: list[dict[str, Any]]) -> list[list[int]]:
        """Return the ids of dialogues, each answer after its prompt; this needs no weights.

        Raises:
            UserError: its template rejects one: it has no system turns or tools, for example.
        """
        dialogues = [
            [*prompt, {"role": "assistant", "content": answer["text"]}]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        try:
            return self.by_training(prompts, answers, dialogues) if self.stage else self.by_template(dialogues)
        except Refused as error:
            raise UserError(f"the judge {self.name} cannot read a held-out dialogue ({error}): name another") from None

    def by_training(self, prompts: list[Any], answers: list[dict[str, Any]], dialogues: list[Any]) -> list[list[int]]:
        """Return dialogues as a stage here read its pairs; `answers` say which were truncated."""
        asked = self.renderer.texts(prompts)
        beginnings = [self.renderer.begin(ids) for ids in self.renderer.encode(asked)]
        ends = self.renderer.answers(self.renderer.texts(dialogues, answer=True), asked)
        # a truncated response has no stop token: RLOO's reward model did not see one either
        ends = [ids if answer["stopped"] else ids[:-1] for ids, answer in zip(ends, answers, strict=True)]
        return [begin + end for begin, end in zip(beginnings, ends, strict=True)]

    def by_template(self, dialogues: list[Any]) -> list[list[int]]:
        """Return dialogues as a foreign model's own template writes them."""
        tokenizer = self.tokenizer
        try:
            return tokenizer.apply_chat_template(dialogues, tokenize=True, return_dict=True)["input_ids"]
        except Exception as error:  # a template is a program, and raises what it likes
            raise Refused(" ".join(str(error).split())) from None


def given(pairs: Any, side: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return the prompts of pairs, and one side's responses as answers."""
    return list(pairs["prompt"]), [{"text": text, "stopped": True} for text in pairs[side]]
