"""Read a preference pair from any schema: raw dialogues, message lists, or plain text."""

import re
from dataclasses import dataclass
from typing import Any

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
TURN = re.compile(r"\n\n(Human|Assistant):")  # the format of dialogues in Anthropic's HH-RLHF
SHP = {"history", "human_ref_A", "human_ref_B", "labels"}  # Stanford Human Preferences: two responses and a label
# Names of a pair's scores in UltraFeedback (binarized), Argilla's cleaned version and capybara-dpo-7k.
SCORES = [
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
]
COLUMNS = {"prompt", "chosen", "rejected", *SHP, "score_A", "score_B", *(name for pair in SCORES for name in pair)}
TURN_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Pair:
    """A prompt (system, user and earlier assistant turns, ending with the user's) and two responses to it."""

    prompt: list[Message]
    chosen: str
    rejected: str
    tied: bool = False  # the source gives both responses the same score


class Malformed(ValueError):
    """A row that is no preference pair; the message says why."""


class Unusable(ValueError):
    """A well-formed row that cannot be trained on; the message is its finding, see recipes.data.findings."""


def read_pair(row: dict[str, Any]) -> Pair:
    """Read a row with `chosen`, `rejected` and, unless both are whole dialogues, `prompt`.

    Each may be text, a raw `\\n\\nHuman: … \\n\\nAssistant: …` dialogue, or a list of messages (`{"role": …, "content":
    …}`). Responses given as whole dialogues contain their prompt, as in UltraFeedback; a `prompt` column is then
    redundant and ignored. Pairs as in SHP (`history`, `human_ref_A`, `human_ref_B`, `labels`) are ordered by their
    label.

    Raises:
        Malformed: a column is missing or contains something else.
        Unusable: the two responses belong to different prompts, are identical, or one is empty or missing.
    """
    if row.keys() >= SHP:
        row = ordered_by_label(row)
    prompts, answers = [], []
    for column in ("chosen", "rejected"):
        messages = as_messages(row, column, "assistant")
        if messages[-1]["role"] != "assistant":
            raise Unusable("empty")
        answers.append(messages[-1]["content"])
        prompts.append(messages[:-1] or as_prompt(row))
    if prompts[0] != prompts[1]:
        raise Unusable("diverging")
    if not all(answer.strip() for answer in answers):
        raise Unusable("empty")
    if answers[0].strip() == answers[1].strip():
        raise Unusable("identical")
    return Pair(prompts[0], *answers, tied=tied(row))


def ordered_by_label(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of SHP's schema under our names; `labels` is 1 where A is preferred, 0 where B is."""
    if row["labels"] not in (0, 1, "0", "1"):
        raise Malformed(f"column 'labels' holds {describe(row['labels'])}: 1 prefers human_ref_A, 0 human_ref_B")
    better, worse = ("A", "B") if int(row["labels"]) == 1 else ("B", "A")
    return {
        **{"prompt": row["history"], "chosen": row[f"human_ref_{better}"], "rejected": row[f"human_ref_{worse}"]},
        **{"score_chosen": row.get(f"score_{better}"), "score_rejected": row.get(f"score_{worse}")},
    }


def tied(row: dict[str, Any]) -> bool:
    """Whether the source gives both responses the same score."""
    scores = [(row.get(chosen), row.get(rejected)) for chosen, rejected in SCORES]
    return any(chosen == rejected for chosen, rejected in scores if chosen is not None)


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
    """Split `\\n\\nHuman: … \\n\\nAssistant: …` into messages; white space around a turn is dropped."""
    parts = TURN.split(text)[1:]
    return [
        {"role": TURN_ROLES[name], "content": content.strip()}
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def describe(value: Any) -> str:
    """Describe a value of the wrong type in plain words."""
    if value is None:
        return "nothing (null)"
    return "an empty list" if value == [] else f"{type(value).__name__} {str(value)[:40]!r}"
