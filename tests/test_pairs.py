"""One pair out of every schema that people have."""

from typing import Any

import pytest

from recipes.data.messages import Malformed
from recipes.data.schemas import Pair, Unusable, read_pair

USER, YES, NO = (
    {"role": "user", "content": "Is it?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "assistant", "content": "No."},
)
PAIR = Pair([USER], "Yes.", "No.")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Is it?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
        {"prompt": "Is it?", "chosen": [YES], "rejected": [NO]},
        {"chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": "Is it?", "chosen": [USER, YES], "rejected": [USER, NO]},
        {"chosen": "\n\nHuman: Is it?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Is it?\n\nAssistant: No."},
        {"prompt": "\n\nHuman: Is it?\n\nAssistant:", "chosen": "Yes.", "rejected": "No."},
        {"history": "Is it?", "human_ref_A": "Yes.", "human_ref_B": "No.", "labels": 1, "score_A": 9, "score_B": 2},
        {"history": "Is it?", "human_ref_A": "No.", "human_ref_B": "Yes.", "labels": 0, "score_A": 2, "score_B": 9},
    ],
    ids=["texts", "messages", "short", "dialogues", "ultrafeedback", "hh-rlhf", "open-turn", "shp-a", "shp-b"],
)
def test_all_shapes_are_the_same_pair(row: dict[str, Any]) -> None:
    assert read_pair(row) == PAIR


def test_earlier_turns_and_system_turns_belong_to_the_prompt() -> None:
    system = {"role": "system", "content": "Be brief."}
    history = [system, USER, NO, {"role": "user", "content": "Sure?"}]
    assert read_pair({"chosen": [*history, YES], "rejected": [*history, NO]}).prompt == history
    raw = "\n\nHuman: Is it?\n\nAssistant: No.\n\nHuman: Sure?\n\nAssistant:"
    assert read_pair({"chosen": f"{raw} Yes.", "rejected": f"{raw} No."}).prompt == history[1:]


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"prompt": "Is it?", "chosen": "Yes.", "rejected": "Yes."}, "identical"),
        ({"prompt": "Is it?", "chosen": "Yes.", "rejected": "Yes. \n"}, "identical"),
        ({"prompt": "Is it?", "chosen": "Yes.", "rejected": " \n"}, "empty"),
        ({"chosen": [USER], "rejected": [USER]}, "empty"),
        ({"chosen": [USER, YES], "rejected": [{"role": "user", "content": "What?"}, NO]}, "diverging"),
    ],
)
def test_what_cannot_be_trained_on_is_told_apart(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        read_pair(row)


def test_a_score_without_its_counterpart_is_no_tie() -> None:
    row = {"prompt": "Is it?", "chosen": "Yes.", "rejected": "No.", "score_chosen": 5.0}
    assert not read_pair(row).tied and read_pair(row | {"score_rejected": 5.0}).tied


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"prompt": "Is it?", "chosen": "Yes."}, "no column 'rejected'"),
        ({"prompt": "Is it?", "chosen": None, "rejected": "No."}, "'chosen' holds nothing"),
        ({"prompt": "Is it?", "chosen": True, "rejected": "No."}, "'chosen' holds bool 'True'"),
        ({"prompt": "Is it?", "chosen": [], "rejected": "No."}, "an empty list"),
        ({"chosen": "Yes.", "rejected": "No."}, "responses but no prompt"),
        ({"prompt": "Is it?", "chosen": [{"role": "robot", "content": "Yes."}], "rejected": [NO]}, "role 'robot'"),
        (
            {"prompt": "Is it?", "chosen": [{"role": "assistant", "content": [{"text": "Yes."}]}], "rejected": [NO]},
            "not text",
        ),
        ({"prompt": "Is it?", "chosen": ["Yes."], "rejected": [NO]}, "where a message"),
        ({"prompt": [YES], "chosen": "Yes.", "rejected": "No."}, "does not end with a turn of the user"),
    ],
)
def test_what_is_malformed_is_said(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read_pair(row)
