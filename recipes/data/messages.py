"""One column's value as messages: text, a raw dialogue, or a list of messages in any of the forms that people have."""

import ast
import json
import re
from contextlib import suppress
from typing import Any

Message = dict[str, Any]  # `role`, `content` (text) and, where the source has them, other fields such as `tool_calls`
ROLES = ("system", "user", "assistant", "tool")
TURN = re.compile(r"\n\n(Human|Assistant):")  # the format of dialogues in Anthropic's HH-RLHF
WRITTEN = re.compile(r"\s*\[\s*\{\s*['\"](role|content|from|value)['\"]\s*:")  # a list of messages, as text
NUMPY = re.compile(r"\}\s+\{\s*['\"](role|content|from|value)['\"]\s*:")  # between two messages: no comma
TURN_ROLES = {"Human": "user", "Assistant": "assistant"}
# ShareGPT's messages are {from, value}; its roles.
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant"}
SHAREGPT |= {"system": "system", "tool": "tool", "observation": "tool"}

NOTHING = (None, "", [], {})


class Malformed(ValueError):
    """A row that is no preference pair; the message says why."""


class Unusable(ValueError):
    """A well-formed row that cannot be trained on; the message is its finding, see recipes.data.findings."""


def as_messages(row: dict[str, Any], column: str, role: str) -> list[Message]:
    """Return a column as messages; plain text becomes one message of `role`.

    Raises:
        Malformed: the column is missing or holds something else.
    """
    if column not in row:
        raise Malformed(f"has no column {column!r}; its columns are {', '.join(sorted(row))}")
    value = row[column]
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and value:
        return [as_message(message, column) for message in value]
    text = as_text(value, column)
    if written := written_messages(text, column):
        return [as_message(message, column) for message in written]
    if re.match(r"\s*Human:", text) and "\n\nAssistant:" in text:  # stripped, or with another number of line ends
        text = f"\n\n{text.lstrip()}"
    return split_dialogue(text) if TURN.match(text) else [{"role": role, "content": text}]


def written_messages(text: str, column: str) -> list[Any] | None:
    """Return the list of messages that a text spells as JSON or, as pandas writes a column of lists, as Python does.

    Raises:
        Malformed: it spells one as NumPy does, without commas, which nothing reads back.
    """
    if not WRITTEN.match(text):
        return None
    found = parsed_json(text)
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        found = found or ast.literal_eval(text.strip())
    if found is None and NUMPY.search(text):
        raise Malformed(
            f"column {column!r} holds messages as NumPy prints an array: write the table as Parquet or JSON Lines"
        )
    if not isinstance(found, list):
        return None
    messages = [renamed(one) for one in found if isinstance(one, dict)]
    whole = messages and len(messages) == len(found) and all({"role", "content"} <= one.keys() for one in messages)
    return messages if whole else None


def as_text(value: Any, column: str) -> str:
    """Return text; a number as its file spells it.

    Raises:
        Malformed: it is neither, or holds half a character, which no file can be written with.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return getattr(value, "text", str(value))
    if not isinstance(value, str):
        raise Malformed(f"column {column!r} holds {describe(value)}, not text or a list of messages")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Malformed(f"column {column!r} holds half of a character (an unpaired surrogate)") from None
    return value


def as_message(value: Any, column: str) -> Message:
    """Return one message of a list, without fields that hold nothing.

    Raises:
        Malformed: it has no role that we know, or no text.
    """
    fields = renamed(value) if isinstance(value, dict) else {}
    calls = as_calls(fields.get("tool_calls"), column)
    if "role" not in fields or not ("content" in fields or calls):
        raise Malformed(f"column {column!r} holds {describe(value)} where a message {{role, content}} belongs")
    if fields["role"] not in ROLES:
        raise Malformed(f"column {column!r} has a turn of role {fields['role']!r}; roles are {', '.join(ROLES)}")
    content = fields.get("content")
    text = "" if content is None and calls else content_text(content, column)
    others = {key: part for key, part in fields.items() if key not in ("role", "content") and part not in NOTHING}
    as_text(json.dumps([others, calls], ensure_ascii=False, default=str), column)
    return {"role": fields["role"], "content": text, **others, **({"tool_calls": calls} if calls else {})}


def renamed(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message under the names role and content; ShareGPT's are `from` and `value`."""
    if not {"from", "value"} <= message.keys():
        return message
    rest = {key: part for key, part in message.items() if key not in ("from", "value")}
    return {"role": SHAREGPT.get(str(message["from"]), message["from"]), "content": message["value"], **rest}


def content_text(content: Any, column: str) -> str:
    """Return a message's content as text: text itself, or typed parts (`[{"type": "text", "text": …}]`) that are text.

    Raises:
        Malformed: it is something else, or a part is an image or the like.
    """
    if not isinstance(content, list):
        try:
            return as_text(content, column)
        except Malformed:
            wrong = describe(content)
            raise Malformed(f"column {column!r} has a message whose content is {wrong}, not text") from None
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            wrong = f"a part of type {kind!r}" if kind not in (None, "text") else describe(content)
            raise Malformed(f"column {column!r} has a message whose content is {wrong}, not text")
    return as_text("".join(part["text"] for part in content), column)


def as_calls(calls: Any, column: str) -> list[Any]:
    """Return a message's tool calls, their arguments as the objects that chat templates take (OpenAI writes JSON).

    Raises:
        Malformed: a call is no object.
    """
    if not isinstance(calls, list):
        return []
    calls = [parsed_json(call) if isinstance(call, str) else call for call in calls]
    if wrong := [call for call in calls if not isinstance(call, dict)]:
        raise Malformed(f"column {column!r} has a tool call that is {describe(wrong[0])}, not an object")
    return [call | {"function": with_arguments(call["function"])} if "function" in call else call for call in calls]


def with_arguments(function: Any) -> Any:
    """Return a called function with its arguments parsed."""
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        arguments = parsed_json(function["arguments"])
        return function | {"arguments": arguments} if isinstance(arguments, dict) else function
    return function


def parsed_json(text: str) -> Any:
    """Return what a JSON text holds; None if it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def split_dialogue(text: str) -> list[Message]:
    """Split `\\n\\nHuman: … \\n\\nAssistant: …` into messages; white space around a turn is dropped."""
    parts = TURN.split(text)[1:]
    return [
        {"role": TURN_ROLES[name], "content": content.strip()}
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def out_of_order(prompt: list[Message]) -> bool:
    """Whether a prompt's turns do not alternate from a user's to a user's, after at most one system turn.

    A tool's results, and the call before them, belong to the assistant's next turn.
    """
    roles = [message["role"] for message in prompt]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    called = [place for place, role in enumerate(turns) if role == "tool" or turns[place + 1 : place + 2] == ["tool"]]
    turns = [role for place, role in enumerate(turns) if place not in called]
    return turns[-1:] == ["assistant"] or any(
        role != ("user", "assistant")[place % 2] for place, role in enumerate(turns)
    )


def describe(value: Any) -> str:
    """Describe a value of the wrong type in plain words."""
    if value is None:
        return "nothing (null)"
    return "an empty list" if value == [] else f"{type(value).__name__} {str(value)[:40]!r}"
