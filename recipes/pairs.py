"""One preference pair, whatever the schema of its row: raw dialogues, message lists, or plain text."""

import re
from dataclasses import dataclass
from typing import Any

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
TURN = re.compile(r"\n\n(Human|Assistant):")  # how Anthropic's HH-RLHF writes a dialogue
TURN_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Pair:
    """A prompt (system, user and earlier assistant turns, ending with the user's) and two answers to it."""

    prompt: list[Message]
    chosen: str
    rejected: str


class Malformed(ValueError):
    """A row that is no preference pair; the message says why."""


class Unusable(ValueError):
    """A well-formed row that cannot be trained on; the message is the reason, counted in the report."""


def read_pair(row: dict[str, Any]) -> Pair:
    """Read a row with `chosen`, `rejected` and, unless both are whole dialogues, `prompt`.

    Each may be text, a raw `\\n\\nHuman: … \\n\\nAssistant: …` dialogue, or a list of messages
    (`{"role": …, "content": …}`). Answers given as whole dialogues carry their own prompt, as in
    UltraFeedback; a `prompt` column beside them is then redundant and not used.

    Raises:
        Malformed: a column is missing or holds something else.
        Unusable: the two answers belong to different prompts, are identical, or one is empty.
    """
    prompts, answers = [], []
    for column in ("chosen", "rejected"):
        messages = as_messages(row, column, "assistant")
        if messages[-1]["role"] != "assistant":
            raise Malformed(f"column {column!r} ends with a turn of the {messages[-1]['role']}, not with an answer")
        answers.append(messages[-1]["content"])
        prompts.append(messages[:-1] or as_prompt(row))
    if prompts[0] != prompts[1]:
        raise Unusable("the answers belong to different prompts")
    if not all(answer.strip() for answer in answers):
        raise Unusable("an answer is empty")
    if answers[0] == answers[1]:
        raise Unusable("the answers are identical")
    return Pair(prompts[0], *answers)


def as_prompt(row: dict[str, Any]) -> list[Message]:
    """Return the `prompt` column as messages; a raw dialogue may end with an open `Assistant:` turn."""
    if row.get("prompt") is None:
        raise Malformed("has answers but no prompt: add a column 'prompt', or give whole dialogues")
    messages = as_messages(row, "prompt", "user")
    if messages[-1] == {"role": "assistant", "content": ""}:
        messages = messages[:-1]
    if not messages or messages[-1]["role"] != "user":
        raise Malformed("column 'prompt' does not end with a turn of the user")
    return messages


def as_messages(row: dict[str, Any], column: str, role: str) -> list[Message]:
    """Return a column as messages; plain text becomes one message of `role`."""
    if column not in row:
        raise Malformed(f"has no column {column!r}; its columns are {', '.join(sorted(row))}")
    value = row[column]
    if isinstance(value, str):
        return split_dialogue(value) if TURN.match(value) else [{"role": role, "content": value}]
    if isinstance(value, list) and value:
        return [as_message(message, column) for message in value]
    raise Malformed(f"column {column!r} holds {describe(value)}, not text or a list of messages")


def as_message(value: Any, column: str) -> Message:
    """Check one message of a list."""
    if not isinstance(value, dict) or not {"role", "content"} <= value.keys():
        raise Malformed(f"column {column!r} holds {describe(value)} where a message {{role, content}} belongs")
    if value["role"] not in ROLES:
        raise Malformed(f"column {column!r} has a turn of role {value['role']!r}; roles are {', '.join(ROLES)}")
    if not isinstance(value["content"], str):
        raise Malformed(f"column {column!r} has a message whose content is {describe(value['content'])}, not text")
    return {"role": value["role"], "content": value["content"]}


def split_dialogue(text: str) -> list[Message]:
    """Split `\\n\\nHuman: … \\n\\nAssistant: …` into messages; white space around a turn is not its content."""
    parts = TURN.split(text)[1:]
    return [
        {"role": TURN_ROLES[name], "content": content.strip()}
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def describe(value: Any) -> str:
    """Name a value of the wrong kind in a user's words."""
    if value is None:
        return "nothing (null)"
    return "an empty list" if value == [] else f"{type(value).__name__} {str(value)[:40]!r}"
