"""The columns of pairs and of demonstrations, in every schema that is read; whether a table has them."""

import difflib
from collections.abc import Iterable

from recipes.system.errors import UserError

SIDES = ("chosen", "rejected")
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")  # of prepared pairs
# The response of a demonstration: the first that there is; the last two hold the whole dialogue.
DEMONSTRATED = ("completion", "response", "output", "answer", "chosen", "messages", "conversations")
PROMPTS = ("prompt", "question", "instruction", "conversations", "messages")  # the first that there is
MEANT = {
    "prompt": (*PROMPTS, "input", "query", "user"),
    "chosen": ("good", "better", "best", "preferred", "accepted", "winner", "win", "positive", "pos"),
    "rejected": ("bad", "worse", "worst", "dispreferred", "refused", "loser", "lose", "negative", "neg"),
}
SYSTEMS = ("system", "system_prompt")
# Tables whose responses come with a judgement, see `recipes.data.judged`: the columns of each kind, all needed.
JUDGED = {
    "label": {"history", "human_ref_A", "human_ref_B", "labels"},  # as in Stanford Human Preferences
    "preference": {"context", "response1", "response2", "overall_preference"},  # as in HelpSteer3
    "better": {"prompt", "response_0", "response_1", "better_response_id"},  # as in PKU-SafeRLHF
    "winner": {"conversation_a", "conversation_b", "winner"},  # as in Chatbot Arena
    "scores": {"prompt", "response_a", "response_b", "score_a", "score_b"},
    "ranked": {"prompt", "answers"},  # as in Nectar
    "single": {"completion", "label"},  # as TRL's KTO takes them: one response a row, good or bad
    "rated": {"instruction", "completions"},  # as in UltraFeedback before it was made into pairs
}
# Names of a pair's scores in UltraFeedback (binarized), Argilla's cleaned version and capybara-dpo-7k.
SCORES = [
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
]
MORE = {"score_A", "score_B", "tools", *SYSTEMS, *(name for pair in SCORES for name in pair)}


def makes_pairs(columns: Iterable[str]) -> bool:
    """Whether a table with these columns can hold pairs."""
    names = {*columns}
    return names >= {*SIDES} or judged(names) is not None


def judged(columns: Iterable[str]) -> str | None:
    """Return the kind of table, of `JUDGED`, that these columns make; None for pairs as they are, and anything else."""
    names = {*columns}
    if names >= {*SIDES}:
        return None
    return next((kind for kind, needed in JUDGED.items() if names >= needed), None)


def used(columns: Iterable[str]) -> set[str]:
    """Return the columns that are read of a table: a pair's, with the first that holds the prompt."""
    names = {*columns}
    kind, prompt = judged(names), next((name for name in PROMPTS if name in names), "")
    more = [*(JUDGED[kind] if kind else []), *(["input"] if prompt == "instruction" else [])]
    return names & {*SIDES, *MORE, prompt, *more}


LONG_NAME = 40  # characters; a longer "name" is probably a cell


def check_columns(path: str, columns: Iterable[str], cluster: str | None = None) -> None:
    """Reject a table that cannot hold pairs.

    Raises:
        UserError: `chosen` or `rejected` is missing, or the column that names clusters; the message has the columns,
            and what was probably meant.
    """
    names = list(columns)
    if cluster and cluster not in names:
        raise UserError(
            f"{path} has no column {cluster!r}, which dataset.cluster names; its columns are {', '.join(names)}"
        )
    if makes_pairs(names):
        return
    missing = [column for column in SIDES if column not in names]
    asks = [] if {*PROMPTS} & {*names} else ["prompt"]
    hints = []
    if not {*names} >= {"response_a", "response_b"}:  # another column judges these: no new name makes pairs of them
        meant = {column: alike(column, names) for column in (*asks, *missing)}
        shown = {column: found if found == found.strip() else repr(found) for column, found in meant.items() if found}
        hints = [f"rename {found} to {column}" for column, found in shown.items()]
    raise UserError(
        f"{path} has no column {' and no column '.join(map(repr, missing))}; its columns are "
        f"{', '.join(names)}: {' and '.join(hints) or advice(names)}"
    )


def advice(names: list[str]) -> str:
    """Say what is probably wrong with columns of which none is close to a known one."""
    if any(len(name) > LONG_NAME or name.rstrip().endswith((".", "?", "!")) for name in names):
        return "is the header missing? The first line names the columns prompt, chosen, rejected"
    if len(names) == 1:
        return "give one row per line, or a list of rows, with prompt, chosen, rejected"
    return f"{'rename them to' if len(names) > 2 else 'pairs need'} prompt, chosen, rejected"


def alike(column: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant for a column: another case, another word, a slip."""
    known = {name.lower().strip(): name for name in names}
    word = next((word for word in (column, *MEANT[column]) if word in known), None)
    close = [word] if word else difflib.get_close_matches(column, known, 1, 0.7)
    return known[close[0]] if close else None


def check_demonstrations(path: str, columns: Iterable[str]) -> None:
    """Reject a table that cannot hold demonstrations.

    Raises:
        UserError: no column can hold a response; the message has the columns.
    """
    names = list(columns)
    if not {*names} & {*DEMONSTRATED}:
        raise UserError(
            f"sft.dataset: {path} has no column of responses; its columns are {', '.join(names)}: rename them to "
            "prompt and completion, or messages"
        )
