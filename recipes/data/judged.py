"""Rows whose responses come with a judgement (a label, a winner, ranks, scores), put in order as pairs.

Of more than two responses the best and the worst make the pair. Equal judgements prefer nothing: the finding
`undecided`. Rows with one labelled response are put together by their prompts; what has no partner is `alone`, see
`recipes.data.unpaired`.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from recipes.data.columns import PROMPTS, SIDES, SYSTEMS, judged
from recipes.data.formats import Broken
from recipes.data.messages import Malformed, Unusable, describe, parsed_json

Row = dict[str, Any]
TEXTS = ("answer", "response", "text", "content")  # of a response in a list
SCORES = ("overall_score", "score", "rating")  # the higher the better


def by_label(row: Row) -> Row:
    """Read a row as in Stanford Human Preferences; `labels` is 1 where A is preferred, 0 where B is."""
    label = one_of(row, "labels", {1: "1 prefers human_ref_A", 0: "0 human_ref_B"})
    better, worse = ("A", "B") if label == 1 else ("B", "A")
    scores = {"score_chosen": row.get(f"score_{better}"), "score_rejected": row.get(f"score_{worse}")}
    return row | pair(row["history"], row[f"human_ref_{better}"], row[f"human_ref_{worse}"]) | scores


def by_preference(row: Row) -> Row:
    """Read a row as in HelpSteer3; `overall_preference` runs from -3 (response1 is much better) to 3 (response2)."""
    return row | ordered(row["context"], row["response1"], row["response2"], -number(row, "overall_preference"))


def by_better(row: Row) -> Row:
    """Read a row as in PKU-SafeRLHF; `better_response_id` is 0 or 1."""
    better = one_of(row, "better_response_id", {0: "0 prefers response_0", 1: "1 response_1"})
    return row | pair(row["prompt"], row[f"response_{better}"], row[f"response_{1 - better}"])


def by_winner(row: Row) -> Row:
    """Read a row as in Chatbot Arena; `winner` is model_a, model_b or a tie."""
    winner = str(row["winner"])
    if winner not in ("model_a", "model_b") and not winner.startswith("tie"):
        raise Malformed(f"column 'winner' holds {describe(row['winner'])}: use model_a, model_b or tie")
    advantage = {"model_a": 1, "model_b": -1}.get(winner, 0)
    return row | ordered(None, row["conversation_a"], row["conversation_b"], advantage)


def by_scores(row: Row) -> Row:
    """Read a row with `response_a` and `response_b`, whose scores are `score_a` and `score_b`."""
    advantage = number(row, "score_a") - number(row, "score_b")
    return row | ordered(row["prompt"], row["response_a"], row["response_b"], advantage)


def of_answers(row: Row) -> Row:
    """Read a row as in Nectar: `answers`, each with a rank or a score."""
    return row | best_and_worst(row["answers"], "answers")


def of_completions(row: Row) -> Row:
    """Read a row as in UltraFeedback before it was made into pairs: `completions`, each with a score."""
    return row | best_and_worst(row["completions"], "completions")


def of_one(row: Row) -> Row:
    """Refuse a response that `partnered` left alone.

    Raises:
        Malformed: its label says neither good nor bad.
        Unusable: no response to its prompt has the other label.
    """
    side_of(row)
    raise Unusable("alone")


READERS: dict[str, Callable[[Row], Row]] = {
    "single": of_one,
    "label": by_label,
    "preference": by_preference,
    "better": by_better,
    "winner": by_winner,
    "scores": by_scores,
    "ranked": of_answers,
    "rated": of_completions,
}


def partnered(rows: Iterable[Row | Broken]) -> Iterator[tuple[int, Row | Broken]]:
    """Yield rows with their numbers; a prompt's first good and first bad single response come as one pair.

    The pair has the number of the later row. Other rows are as they were.
    """
    waiting: dict[tuple[str, bool], list[tuple[int, Row]]] = defaultdict(list)
    for number, row in enumerate(rows):
        good = None if isinstance(row, Broken) or judged(row) != "single" else label_of(row)
        if isinstance(row, Broken) or good is None:
            yield number, row
        elif waiting[prompt_of(row), not good]:
            _, other = waiting[prompt_of(row), not good].pop(0)
            better, worse = (row, other) if good else (other, row)
            rest = {name: value for name, value in row.items() if name not in ("completion", "label")}
            yield number, rest | {"chosen": better["completion"], "rejected": worse["completion"]}
        else:
            waiting[prompt_of(row), good].append((number, row))
    yield from sorted((one for left in waiting.values() for one in left), key=lambda found: found[0])


def side_of(row: Row) -> str:
    """Return which side of a pair a single response would be: chosen or rejected.

    Raises:
        Malformed: its label says neither good nor bad.
    """
    return SIDES[1 - one_of(row, "label", {1: "true is a good response", 0: "false a bad one"})]


def label_of(row: Row) -> bool | None:
    """Return whether a single response is good; None if its label does not say it."""
    try:
        return side_of(row) == SIDES[0]
    except Malformed:
        return None


def prompt_of(row: Row) -> str:
    """Return what the responses to one prompt have in common: of a whole dialogue, all turns before the last."""
    said = row.get("completion")
    earlier = said[:-1] if isinstance(said, list) else None
    columns = [row.get(name) for name in (*PROMPTS, *SYSTEMS, "input", "tools")]
    return json.dumps([*columns, earlier], default=str, sort_keys=True)


def pair(prompt: Any, chosen: Any, rejected: Any) -> Row:
    """Return a row under our names; whole dialogues need no prompt."""
    return {**({} if prompt is None else {"prompt": prompt}), "chosen": chosen, "rejected": rejected}


def ordered(prompt: Any, one: Any, other: Any, advantage: float) -> Row:
    """Return two responses in the order of their judgement; `advantage` is by how much `one` is better.

    Raises:
        Unusable: neither is better.
    """
    if advantage == 0:
        raise Unusable("undecided")
    chosen, rejected = (one, other) if advantage > 0 else (other, one)
    return pair(prompt, chosen, rejected) | {"score_chosen": abs(advantage), "score_rejected": 0}


def best_and_worst(value: Any, column: str) -> Row:
    """Return the best and the worst of a list of judged responses.

    Raises:
        Malformed: it is no list of at least two responses with ranks or scores.
        Unusable: all are equally good.
    """
    value = (parsed_json(value) or value) if isinstance(value, str) else value
    judged = [merit(entry, column) for entry in value] if isinstance(value, list) else []
    if len(judged) < 2:
        raise Malformed(f"column {column!r} holds {describe(value)}: give at least two responses with rank or score")
    (best, most), *_, (worst, least) = sorted(judged, key=lambda found: found[1], reverse=True)
    if most == least:
        raise Unusable("undecided")
    return pair(None, best, worst) | {"score_chosen": most, "score_rejected": least}


def merit(entry: Any, column: str) -> tuple[Any, float]:
    """Return a response's text and how good it is: the higher the better.

    Raises:
        Malformed: it has no text, or neither a rank nor a score.
    """
    fields: Row = entry if isinstance(entry, dict) else {}
    text = next((fields[name] for name in TEXTS if fields.get(name) is not None), None)
    name = next((name for name in ("rank", *SCORES) if fields.get(name) is not None), None)
    if text is None or name is None:
        raise Malformed(f"column {column!r} holds {describe(entry)}: give each response as answer, with rank or score")
    found = number(fields, name)
    return text, -found if name == "rank" else found


def number(row: Row, column: str) -> float:
    """Return a number of a row.

    Raises:
        Malformed: it is none.
    """
    with suppress(TypeError, ValueError, OverflowError):
        found = float(row[column])
        if math.isfinite(found):
            return found
    raise Malformed(f"column {column!r} holds {describe(row[column])}, not a number")


def one_of(row: Row, column: str, meanings: dict[int, str]) -> int:
    """Return a value of a row that must be one of a few numbers, however it is written: 1, 1.0, true.

    Raises:
        Malformed: it is another; the message has their meanings.
    """
    with suppress(Malformed):
        found = number({column: {"true": 1, "false": 0}.get(str(row[column]).lower(), row[column])}, column)
        if found in meanings:
            return int(found)
    raise Malformed(f"column {column!r} holds {describe(row[column])}: {', '.join(meanings.values())}")
