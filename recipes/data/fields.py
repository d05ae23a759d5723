"""Render what a row holds besides roles and texts: tools, calls, thoughts and other fields of messages.

Whether a template writes a field shows when it is left out: then the text changes.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from recipes.data.chat import Message, Refused, Renderer

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
THOUGHT = re.compile(r"</?think>")  # around the thoughts that are written into a text


@dataclass(frozen=True)
class Dialogue:
    """A prompt and its responses as messages with all their fields, and the functions that they may call."""

    prompt: list[Message]
    answers: dict[str, Message]  # chosen, and rejected where it is a pair
    tools: list[Any]

    @classmethod
    def of(cls, prompt: list[Message], answers: dict[str, str], extra: str) -> "Dialogue":
        """Put texts and fields (`recipes.data.rows.fields_of`) together."""
        fields = json.loads(extra)
        turns = fields.get("prompt") or [{} for _ in prompt]
        asked = [turn | more for turn, more in zip(prompt, turns, strict=True)]
        sides = {side: {"role": "assistant", "content": text} | fields.get(side, {}) for side, text in answers.items()}
        return cls(asked, sides, fields.get("tools", []))

    def texts(self, render: Renderer) -> tuple[str, ...]:
        """Return the texts of the prompt, and of the dialogue with each response."""
        prompt = render.text(self.prompt, tools=self.tools)
        dialogues = ([*self.prompt, answer] for answer in self.answers.values())
        return prompt, *(render.text(dialogue, answer=True, tools=self.tools) for dialogue in dialogues)

    def parts(self) -> Iterator[tuple[str, bool, "Dialogue"]]:
        """Yield each part that a template may leave out, whether it must not, and the dialogue without the part."""
        if self.tools:
            yield "the tools", True, replace(self, tools=[])
        for number, turn in enumerate(self.prompt):
            for name in sorted(turn.keys() - {"role", "content"}):
                rest = [*self.prompt[:number], without(turn, name), *self.prompt[number + 1 :]]
                yield f"field {name!r} of turn {number + 1}", name == "tool_calls", replace(self, prompt=rest)
        for side, answer in self.answers.items():
            for name in sorted(answer.keys() - {"role", "content"}):
                rest = replace(self, answers=self.answers | {side: without(answer, name)})
                yield f"field {name!r} of the {side} response", name in ("tool_calls", *THOUGHTS), rest


def without(message: Message, name: str) -> Message:
    """Return a message without one field."""
    return {key: value for key, value in message.items() if key != name}


def render_fields(dialogue: Dialogue, render: Renderer) -> tuple[tuple[str, ...], list[str]]:
    """Return the texts of a dialogue as `Dialogue.texts` does, and which of its fields the template leaves out.

    Raises:
        Refused: the template rejects the messages, or leaves out tools, calls, or the thoughts of a response.
    """
    texts, left = dialogue.texts(render), []
    for name, needed, rest in dialogue.parts():
        try:
            same = rest.texts(render) == texts
        except Refused:  # the others need it
            continue
        if same and needed:
            raise Refused(f"it does not write {name}")
        left += [name] * same
    return texts, left


def unwritten(prompt: list[Message], answers: dict[str, str], texts: tuple[str, ...]) -> list[str]:
    """Return the turns of whose text a template leaves a part out; of system turns `system_lost` tells.

    Args:
        prompt: the messages before the responses.
        answers: `chosen` and `rejected`, the responses' texts.
        texts: the rendered prompt, and the rendered dialogue with each response.

    Raises:
        Refused: a prompt is rendered otherwise once a response follows, or a response's thoughts are left out.
    """
    asked, left = texts[0], []
    for number, turn in enumerate(prompt, start=1):
        if turn["role"] != "system" and any(missing(turn["content"], asked)):
            left.append(f"text of turn {number} ({turn['role']})")
    for (side, answer), text in zip(answers.items(), texts[1:], strict=True):
        if not text.startswith(asked):
            raise Refused("it renders the prompt differently once a response follows")
        words, thoughts = missing(answer, text[len(asked) :])
        if thoughts:
            raise Refused(f"it does not write the thoughts of the {side} response")
        left += [f"text of the {side} response"] * words
    return left


def missing(content: str, text: str) -> tuple[bool, bool]:
    """Whether a rendered text lacks words of a message, as they are or as JSON, and whether it lacks its thoughts."""
    parts = [part.strip() for part in THOUGHT.split(content)]
    gone = [part not in text and json.dumps(part, ensure_ascii=False)[1:-1] not in text for part in parts]
    return any(gone[::2]), any(gone[1::2])
