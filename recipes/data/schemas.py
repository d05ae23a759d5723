"""Read a preference pair from any schema: raw dialogues, message lists, or plain text."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recipes.data.columns import DEMONSTRATED, PROMPTS, SCORES, SIDES, SYSTEMS, judged
from recipes.data.findings import prompt_key
from recipes.data.judged import READERS, label_of, side_of
from recipes.data.messages import Malformed, Message, Unusable, as_messages, as_text, out_of_order, parsed_json


@dataclass(frozen=True)
class Pair:
    """A prompt (system, user and earlier assistant turns, ending with the user's) and two responses to it.

    A demonstration has no rejected response; of a response without a partner the other side is empty.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    tied: bool = False  # the source gives both responses the same score
    # What only some chat templates render: `tools`, and under `chosen` and `rejected` the responses' other fields.
    extra: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()  # what the row holds and the pair does not


def read_pair(row: dict[str, Any]) -> Pair:
    """Read a row with `chosen`, `rejected` and, unless both are whole dialogues, a prompt.

    Each may be text, a raw `\\n\\nHuman: … \\n\\nAssistant: …` dialogue, or messages (`{"role": …, "content": …}`, or
    ShareGPT's `{"from": …, "value": …}`). Responses given as whole dialogues contain their prompt, as in UltraFeedback;
    of a `prompt` column is then used what they lack. Responses that come with a judgement are put in order by it, see
    `recipes.data.judged`. A column `system` is the system turn.

    Raises:
        Malformed: a column is missing or contains something else.
        Unusable: the two responses belong to different prompts, are identical, are judged equally good, or one, or
            the prompt, is empty.
    """
    kind = judged(row)
    if kind:
        row = READERS[kind](row)
    return assemble(row, [as_messages(row, column, "assistant") for column in SIDES])


def read_demonstration(row: dict[str, Any]) -> Pair:
    """Read a row with one response: a prompt and a completion (or response, output, answer, chosen), or messages.

    Of a dialogue of several turns the last one is the response, the earlier ones are its prompt.

    Raises:
        Malformed: a column is missing or contains something else, or a label calls the response bad.
        Unusable: the response or the prompt is empty.
    """
    column = next((name for name in DEMONSTRATED if row.get(name) is not None), None)
    if column is None:
        raise Malformed("has no response: add a column 'completion', or whole dialogues in 'messages'")
    if judged(row) == "single" and label_of(row) is False:
        raise Malformed("its label calls the response bad: filter such rows, or drop them (policies.malformed=drop)")
    rest = {name: value for name, value in row.items() if name != column}
    return assemble(rest, [as_messages(row, column, "assistant")])


def read_unpaired(row: dict[str, Any]) -> Pair:
    """Read a row with one labelled response, which is the chosen or the rejected one; the other is empty.

    Raises:
        Malformed: a column is missing or contains something else.
        Unusable: the response or the prompt is empty.
    """
    rest = {name: value for name, value in row.items() if name != "completion"}
    return assemble(rest, [as_messages(row, "completion", "assistant")], [side_of(row)])


def assemble(row: dict[str, Any], dialogues: list[list[Message]], sides: Sequence[str] = SIDES) -> Pair:
    """Return what dialogues that end with the responses make, which are of these `sides`; `row` has what they lack.

    Raises:
        Malformed: there is no prompt.
        Unusable: as `read_pair`.
    """
    answers = [messages[-1] for messages in dialogues]
    if any(answer["role"] != "assistant" for answer in answers):
        raise Unusable("empty")
    prompts = [as_prompt(row, messages[:-1]) for messages in dialogues]
    if prompt_key(prompts[0][0]) != prompt_key(prompts[-1][0]):  # ids and times of their turns may differ
        raise Unusable("diverging")
    check_answers(answers)
    (prompt, ignored), (tools, wrong) = prompts[0], as_tools(row.get("tools"))
    prompt, differs = with_system(prompt, row)
    if not any(turn["content"].strip() for turn in prompt if turn["role"] != "system"):
        raise Unusable("empty")
    given = dict(zip(sides, answers, strict=False))  # a demonstration has no second
    fields = {side: others(answer) for side, answer in given.items()} | {"tools": tools}
    extra = {name: value for name, value in fields.items() if value}
    chosen, rejected = (given[side]["content"] if side in given else "" for side in SIDES)
    return Pair(prompt, chosen, rejected, tied(row), extra, (*ignored, *differs, *wrong))


def check_answers(answers: list[Message]) -> None:
    """Reject responses between which nothing can be preferred.

    Raises:
        Unusable: one says and calls nothing, or both are the same.
    """
    if not all(answer["content"].strip() or "tool_calls" in answer for answer in answers):
        raise Unusable("empty")
    one, *others = (answer | {"content": answer["content"].strip()} for answer in answers)
    if one in others:
        raise Unusable("identical")


def others(message: Message) -> dict[str, Any]:
    """Return a message's fields besides its role and its text."""
    return {key: value for key, value in message.items() if key not in ("role", "content")}


def tied(row: dict[str, Any]) -> bool:
    """Whether the source gives both responses the same score."""
    scores = [(number(row.get(chosen)), number(row.get(rejected))) for chosen, rejected in SCORES]
    return any(chosen == rejected for chosen, rejected in scores if chosen is not None)


def number(value: Any) -> Any:
    """Return a score as a number, where it is one: in a CSV file 7 and 7.0 are different texts."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value or None


def as_prompt(row: dict[str, Any], earlier: list[Message]) -> tuple[list[Message], list[str]]:
    """Return the prompt of a response that comes after `earlier` turns of its own column, and what of it is not used.

    Raises:
        Malformed: there is none, or it does not end with a turn of the user or a tool.
    """
    if not earlier or earlier[0]["role"] == "assistant":
        column = next((name for name in PROMPTS if row.get(name) is not None), None)
        if column is None and not earlier:
            raise Malformed("has responses but no prompt: add a column 'prompt', or give whole dialogues")
        return [*(read_prompt(row, column) if column else []), *earlier], []
    column = next((name for name in PROMPTS if row.get(name) is not None), None)
    if column is None:
        return earlier, []
    try:
        return joined(read_prompt(row, column, whole=False), earlier, column)
    except Malformed:
        return earlier, [f"column {column!r}"]


def read_prompt(row: dict[str, Any], column: str, whole: bool = True) -> list[Message]:
    """Return a column as the messages of a prompt; a raw dialogue may end with an open `Assistant:` turn.

    Raises:
        Malformed: it holds something else, or is the `whole` prompt and does not end with a turn of the user or a tool.
    """
    if column == "instruction" and row.get("input"):  # Alpaca's columns
        row = row | {column: f"{as_text(row[column], column)}\n{as_text(row['input'], 'input')}"}
    messages = as_messages(row, column, "user")
    if messages[-1] == {"role": "assistant", "content": ""}:
        messages = messages[:-1]
    if whole and (not messages or messages[-1]["role"] not in ("user", "tool")):
        raise Malformed(f"column {column!r} does not end with a turn of the user")
    return messages


def joined(prompt: list[Message], dialogue: list[Message], column: str) -> tuple[list[Message], list[str]]:
    """Return a whole dialogue's prompt with what only the prompt's column has, and what fits nowhere.

    The prompt column repeats the dialogue, or part of it; or it has the system turn; or the dialogue goes on from it.
    """
    said = squeezed(*(turn["content"] for turn in dialogue))
    missing = [turn for turn in prompt if squeezed(turn["content"]) not in said]
    if not missing:
        return dialogue, []
    if [turn["role"] for turn in missing] == ["system"] and dialogue[0]["role"] != "system":
        return [*missing, *dialogue], []
    if prompt[-1]["role"] == "assistant" and not out_of_order([*prompt, *dialogue]):
        return [*prompt, *dialogue], []
    return dialogue, [f"column {column!r}, which differs from the dialogues"]


def squeezed(*texts: str) -> str:
    """Return texts as one, with single blanks."""
    return re.sub(r"\s+", " ", " ".join(texts)).strip()


def with_system(prompt: list[Message], row: dict[str, Any]) -> tuple[list[Message], list[str]]:
    """Return a prompt with the system turn that a column of its own holds, and that column if it fits nowhere."""
    given = {name: text for name in SYSTEMS if row.get(name) and (text := as_text(row[name], name).strip())}
    ignored = []
    for column, text in given.items():
        there = [turn["content"].strip() for turn in prompt if turn["role"] == "system"]
        if not there:
            prompt = [{"role": "system", "content": text}, *prompt]
        elif text not in there:
            ignored.append(f"column {column!r}, which differs from the system turn")
    return prompt, ignored


def as_tools(value: Any) -> tuple[list[Any], list[str]]:
    """Return the functions that the column `tools` describes, as a list or JSON; that column if it does not.

    Raises:
        Malformed: it holds half a character.
    """
    tools = parsed_json(value) if isinstance(value, str) else value
    tools = (
        [parsed_json(tool) if isinstance(tool, str) else tool for tool in tools] if isinstance(tools, list) else None
    )
    if not value or tools == []:
        return [], []
    as_text(json.dumps(tools, ensure_ascii=False, default=str), "tools")
    if tools is None or not all(isinstance(tool, dict) for tool in tools):
        return [], ["column 'tools', which describes no functions"]
    return tools, []
