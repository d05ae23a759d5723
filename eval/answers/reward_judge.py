"""A reward model as a judge of responses: one that a stage here has trained, or a foreign one."""

from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from recipes.config import UserError, read_config
from recipes.data.chat import Refused, Renderer
from recipes.profiles import Model
from recipes.training.reward_model import load_classifier
from recipes.training.tokenizer import load_tokenizer


class Judge:
    """A reward model and how it reads a dialogue: in the ids of its training, or by its own template."""

    def __init__(self, path: Path | str) -> None:
        """Load it from a directory, or from the hub as `organization/name@commit`.

        Raises:
            UserError: it cannot be loaded, or is no reward model.
        """
        stage = next((place for place in (Path(path), Path(path).parent) if (place / "config.yaml").is_file()), None)
        self.name = str(stage or path)
        place = str(stage / "model" if stage else path)
        name, _, commit = (place, "", "") if Path(place).exists() else place.partition("@")
        self.reward = load_classifier(name, commit or None, foreign=stage is None)
        self.renderer: Renderer | None = None
        if stage:
            profile = Model(**read_config(stage)["model"])
            self.renderer = Renderer(load_tokenizer(profile, str(stage / "model")), profile)

    def rewards(self, prompts: list[Any], answers: list[dict[str, Any]]) -> list[float]:
        """Return what each answer (`text`, `stopped`) to its prompt (messages) is worth."""
        dialogues = [
            [*prompt, {"role": "assistant", "content": answer["text"]}]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        try:
            return self.of_dialogues(prompts, answers, dialogues)
        except (Refused, TemplateError) as error:  # its template has no system turns or tools, for example
            raise UserError(f"the judge {self.name} cannot read a held-out dialogue ({error}): name another") from None

    def of_dialogues(self, prompts: list[Any], answers: list[dict[str, Any]], dialogues: list[Any]) -> list[float]:
        """Return the rewards of whole dialogues; `answers` say which were cut off."""
        if self.renderer is None:
            return self.reward.of_texts(dialogues).tolist()
        asked = self.renderer.texts(prompts)
        beginnings = [self.renderer.begin(ids) for ids in self.renderer.encode(asked)]
        ends = self.renderer.answers(self.renderer.texts(dialogues, answer=True), asked)
        # an answer that was cut off has no stop token: RLOO's reward model did not see one either
        ends = [ids if answer["stopped"] else ids[:-1] for ids, answer in zip(ends, answers, strict=True)]
        return self.reward.of_ids([begin + end for begin, end in zip(beginnings, ends, strict=True)]).tolist()

    def right(self, pairs: Any) -> list[float]:
        """Return, for each pair, 1 where the chosen response has the higher reward, ½ where both have the same."""
        prompts = list(pairs["prompt"])
        chosen, rejected = (
            self.rewards(prompts, [{"text": text, "stopped": True} for text in pairs[side]])
            for side in ("chosen", "rejected")
        )
        return [(1 + (ours > theirs) - (ours < theirs)) / 2 for ours, theirs in zip(chosen, rejected, strict=True)]
