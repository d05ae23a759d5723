"""A stage's answers to dialogues that are not among its pairs, from prompt ids made as the training's were."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from eval.generate import Answer, answers
from eval.stage import load
from recipes.config import Model, read_config
from recipes.model import load_tokenizer
from recipes.render import Message, Renderer, stop_ids


@dataclass
class Speaker:
    """A stage's model with what it takes to talk to it."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stops: list[int]
    renderer: Renderer

    @classmethod
    def load(cls, directory: Path) -> "Speaker":
        """Load a stage's model, or the untuned one, with its profile's chat template and stop tokens.

        Of any other model directory, the tokenizer's own.

        Raises:
            UserError: the model was removed, or has no chat template.
        """
        if (directory / "config.yaml").is_file():
            model, tokenizer, stops = load(directory)
            profile = Model(**read_config(directory)["model"])
            tokenizer.chat_template = profile.chat_template or tokenizer.chat_template
        else:
            profile = Model(directory.name, str(directory))
            tokenizer = load_tokenizer(profile, str(directory))
            model, stops = AutoModelForCausalLM.from_pretrained(directory).eval(), stop_ids(tokenizer, profile)
        return cls(model, tokenizer, stops, Renderer(tokenizer, profile))

    def prompt_ids(self, dialogues: list[list[Message]]) -> list[list[int]]:
        """Return each dialogue's ids up to where the answer begins."""
        encoded = self.renderer.encode(self.renderer.texts(dialogues))
        return [self.renderer.begin(ids) for ids in encoded]

    def answer(
        self,
        dialogues: list[list[Message]],
        max_new_tokens: int,
        temperature: float,
        seed: int,
        advance: Callable[[int], None],
    ) -> list[Answer]:
        """Answer each dialogue once; see `eval.generate.answers`."""
        ids = self.prompt_ids(dialogues)
        return answers(self.model, self.tokenizer, self.stops, ids, max_new_tokens, temperature, seed, advance)
