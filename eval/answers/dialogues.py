"""Chat with a model: a stage's, with its profile's chat template and stop tokens, or that of any directory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from eval.answers.endpoint import Endpoint
from eval.answers.generate import answer, spoken
from eval.answers.load import load, load_renderer, load_tokenizer, load_weights, prompt_ids
from eval.answers.store import Answer, Sampling
from recipes.data.chat import Message, Renderer
from recipes.profiles import Model


@dataclass
class Speaker:
    """A model with its tokenizer, chat template and stop tokens."""

    directory: Path
    model: Any
    tokenizer: PreTrainedTokenizerBase
    stops: list[int]
    renderer: Renderer

    @classmethod
    def load(cls, directory: Path) -> "Speaker":
        """Load a stage's model or the base model; for any other directory, with its own template and stop token.

        Raises:
            UserError: the model was removed.
        """
        if is_stage(directory):
            return cls(directory, *load(directory), load_renderer(directory))
        profile = Model(directory.name, str(directory))
        tokenizer, model = load_tokenizer(str(directory), None, profile), load_weights(str(directory), None)
        profile = replace(profile, stop_tokens=own_stops(model, tokenizer))
        renderer = Renderer(tokenizer, profile)
        return cls(directory, model, tokenizer, renderer.stops, renderer)

    def prompt_ids(self, dialogues: list[list[Message]]) -> list[list[int]]:
        """Return each dialogue's ids up to where the response begins."""
        return prompt_ids(self.renderer, dialogues)

    def answer(
        self, dialogues: list[list[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> Iterator[Answer]:
        """Yield a response to each dialogue, in order."""
        asked = [(ids, 0) for ids in self.prompt_ids(dialogues)]
        found: dict[int, Answer] = {}
        for place, said in spoken(self.model, self.tokenizer, self.stops, asked, sampling):
            found[place] = said
            advance(1)
        yield from (found[place] for place in range(len(dialogues)))


def own_stops(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens that end a model's response by its own generation settings; none if they name none."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return [str(token) for number in ids if (token := tokenizer.convert_ids_to_tokens(number)) is not None]


def answer_once(
    directory: Path,
    dialogues: list[list[Message]],
    sampling: Sampling,
    advance: Callable[[int], None],
    endpoint: Endpoint | None = None,
) -> list[Answer]:
    """Respond to each dialogue once; a stage through `eval.answers.generate`, which caches its responses.

    Raises:
        UserError: the model was removed, or an endpoint is named for a model that is no stage, or the endpoint fails
        for good.
    """
    if endpoint or is_stage(directory):
        return [first for first, *_ in answer(directory, dialogues, sampling, advance, endpoint)]
    return list(speaker(directory).answer(dialogues, sampling, advance))


@cache  # a multi-turn benchmark queries it several times
def speaker(directory: Path) -> Speaker:
    """Return a model that is no stage, loaded only once."""
    return Speaker.load(directory)


def is_stage(directory: Path) -> bool:
    """Whether the launcher created the directory: it contains a profile."""
    return (directory / "config.yaml").is_file()
