"""The published data sets' own columns, as files, through the code path that reads the hub's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import ASKED, BETTER, PUBLISHED, WORSE, expected, read, write

from recipes.config import UserError
from recipes.data.columns import check_columns
from recipes.data.findings import prompt_key
from recipes.data.messages import Malformed
from recipes.data.rows import as_columns
from recipes.data.schemas import Pair, read_pair


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_columns_are_read(tmp_path: Path, name: str, ending: str) -> None:
    path = write([PUBLISHED[name]] * 2, tmp_path / f"rows.{ending}")
    assert read(path) == [expected(name)] * 2


@pytest.mark.parametrize("name", ["Anthropic/hh-rlhf", "stanfordnlp/SHP"])
def test_columns_of_plain_text_are_read_from_csv(tmp_path: Path, name: str) -> None:
    assert read(write([PUBLISHED[name]], tmp_path / "rows.csv")) == [expected(name)]


CALL: dict[str, Any] = {"function": {"name": "f", "arguments": {}}}
WRITTEN = [CALL, json.dumps(CALL), {"function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize("call", WRITTEN)
def test_a_tool_call_may_be_json(call: Any) -> None:
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    row = {"prompt": ASKED, "chosen": [turn], "rejected": WORSE}
    assert read_pair(row).extra["chosen"]["tool_calls"] == [CALL]
    with pytest.raises(Malformed, match="a tool call that is int '7', not an object"):
        read_pair(row | {"chosen": [turn | {"tool_calls": [7]}]})


def test_the_question_of_orpo_dpo_mix_may_be_null(tmp_path: Path) -> None:
    name = "mlabonne/orpo-dpo-mix-40k"
    rows = [PUBLISHED[name], PUBLISHED[name] | {"question": None}]
    assert read(write(rows, tmp_path / "rows.parquet")) == [expected(name)] * 2


def test_a_path_is_no_pattern(tmp_path: Path) -> None:
    name = "Anthropic/hh-rlhf"
    assert read(write([PUBLISHED[name]], tmp_path / "pairs [v1] *?.jsonl")) == [expected(name)]


@pytest.mark.parametrize(
    ("chosen", "rejected"), [("Chosen", "Rejected"), ("good", "bad"), ("choosen", "rejectd"), ("WINNER", "loser")]
)
def test_columns_of_another_name_are_understood_in_the_refusal(tmp_path: Path, chosen: str, rejected: str) -> None:
    path = write([{"question": ASKED, chosen: BETTER, rejected: WORSE}], tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match=f"rename {chosen} to chosen and rename {rejected} to rejected"):
        read(path)


def test_the_prompts_column_is_named_with_the_others(tmp_path: Path) -> None:
    path = write([{"Prompt": ASKED, " chosen": BETTER, "Rejected": WORSE}], tmp_path / "rows.jsonl")
    said = "rename Prompt to prompt and rename ' chosen' to chosen and rename Rejected to rejected"
    with pytest.raises(UserError, match=said):
        read(path)


def test_no_new_name_makes_pairs_of_responses_that_a_winner_judges(tmp_path: Path) -> None:
    path = write([{"prompt": ASKED, "response_a": BETTER, "response_b": WORSE, "winner": "a"}], tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="rename them to prompt, chosen, rejected"):
        read(path)


def test_other_columns_are_named_in_the_refusal(tmp_path: Path) -> None:
    path = write([{"history": ASKED, "human_ref_A": BETTER, "human_ref_B": WORSE}], tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="no column 'chosen' and no column 'rejected'; its columns are history"):
        read(path)


@pytest.mark.parametrize("column", ["prompt", "conversations", "messages"])
def test_a_system_turn_that_only_the_prompts_column_has_is_used(column: str) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    row = PUBLISHED["mlabonne/orpo-dpo-mix-40k"] | {"prompt": None, "question": None, column: asked}
    assert read_pair(row).prompt == asked
    assert read_pair(row | {"system": "Be brief.", "system_prompt": "Be long."}).ignored == (
        "column 'system_prompt', which differs from the system turn",
    )


def test_a_turns_id_makes_no_other_prompt() -> None:
    """Prompts are held out by what is said, not by when."""

    def pair(number: int) -> Pair:
        turns = [{"role": "user", "content": ASKED, "id": f"{number}"}]
        answers = {"chosen": BETTER, "rejected": WORSE}
        return read_pair(
            {side: [*turns, {"role": "assistant", "content": text}] for side, text in answers.items()}
            | {"rejected": [turns[0] | {"id": "x"}, {"role": "assistant", "content": WORSE}]}
        )

    assert prompt_key(pair(1).prompt) == prompt_key(pair(2).prompt)


def test_messages_as_numpy_prints_them_are_refused() -> None:
    """As pandas writes Parquet's lists of messages to a CSV file: no commas, so nothing reads them back."""
    said = {
        side: str(np.array([{"role": "user", "content": ASKED}, {"role": "assistant", "content": text}], dtype=object))
        for side, text in (("chosen", BETTER), ("rejected", WORSE))
    }
    with pytest.raises(Malformed, match="column 'chosen' holds messages as NumPy prints an array"):
        read_pair(said)
    code = "[{'role': 'user', 'content': prompt}]"  # a response about messages, not messages
    assert read_pair({"prompt": ASKED, "chosen": code, "rejected": WORSE}).chosen == code


@pytest.mark.parametrize("before", ["", "\n", " \n\n"])
def test_a_raw_dialogue_may_be_stripped(before: str) -> None:
    asked = [{"role": "user", "content": ASKED}]
    raw = {"chosen": BETTER, "rejected": WORSE}
    whole = read_pair({side: f"{before}Human: {ASKED}\n\nAssistant: {text}" for side, text in raw.items()})
    apart = read_pair({"prompt": f"{before}Human: {ASKED}\n\nAssistant:", **raw})
    assert (whole.prompt, whole.chosen, whole.rejected) == (asked, BETTER, WORSE)
    assert (apart.prompt, apart.chosen, apart.rejected) == (asked, BETTER, WORSE)
    assert read_pair({"prompt": "Human: who?", **raw}).prompt[0]["content"] == "Human: who?", "no dialogue"


def test_half_a_character_is_refused_wherever_it_is() -> None:
    """No tokenizer takes it, in a call or a tool's description either."""
    call = CALL | {"function": {"name": "f", "arguments": {"text": "\ud83d"}}}
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    row = {"prompt": ASKED, "chosen": BETTER, "rejected": WORSE}
    for odd in ({"chosen": [turn]}, {"tools": [{"name": "f", "description": "\ud83d"}]}):
        with pytest.raises(Malformed, match=f"column '{next(iter(odd))}' holds half of a character"):
            read_pair(row | odd)


def test_a_row_without_a_cluster_is_in_none() -> None:
    """Rows without one are no relatives of each other: the cluster follows from their prompts."""
    row = {"prompt": ASKED, "chosen": BETTER, "rejected": WORSE}
    found = [as_columns(row | more, "topic", read_pair)["cluster"] for more in ({"topic": 7}, {"topic": None}, {})]
    assert found == ["7", "", ""]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Where is Ashford?", "By the river."], "is the header missing"),
        (["data"], "give one row per line, or a list of rows"),
        (["prompt", "text"], "pairs need prompt, chosen, rejected"),
    ],
)
def test_advice_on_columns_fits_what_is_wrong(names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_columns("pairs.csv", names)
