"""Pairs that judgements make: scores, ranks, labels, ties."""

from pathlib import Path
from typing import Any

import pytest
from published import ASKED, BETTER, PUBLISHED, SHP, WORSE, expected, read, write

from recipes.data.messages import Malformed, Unusable
from recipes.data.rows import as_pairs
from recipes.data.schemas import Pair, read_demonstration, read_pair
from recipes.data.sources import load_source
from recipes.profiles import Dataset

SCORED = {
    "HuggingFaceH4/ultrafeedback_binarized": ("score_chosen", "score_rejected"),
    "argilla/ultrafeedback-binarized-preferences-cleaned": ("chosen-rating", "rejected-rating"),
    "argilla/distilabel-capybara-dpo-7k-binarized": ("rating_chosen", "rating_rejected"),
    "stanfordnlp/SHP": ("score_A", "score_B"),
}


@pytest.mark.parametrize("name", SCORED)
def test_a_tie_is_seen_in_the_scores(tmp_path: Path, name: str) -> None:
    better, worse = SCORED[name]
    row = PUBLISHED[name]
    tied = row | {worse: row[better]}
    assert [pair.tied for pair in read(write([row, tied], tmp_path / "rows.parquet"))] == [False, True]


def test_shps_label_says_which_answer_is_better(tmp_path: Path) -> None:
    (pair,) = read(write([SHP | {"labels": 0}], tmp_path / "rows.jsonl"))
    assert (pair.chosen, pair.rejected) == (WORSE, BETTER)


@pytest.mark.parametrize(
    ("name", "tie"),
    [
        ("nvidia/HelpSteer3", {"overall_preference": 0}),
        ("lmsys/chatbot_arena_conversations", {"winner": "tie (bothbad)"}),
        ("berkeley-nest/Nectar", {"answers": [{"answer": BETTER, "rank": 1}, {"answer": WORSE, "rank": 1}]}),
        ("openbmb/UltraFeedback", {"completions": [{"response": text, "score": 5} for text in (BETTER, WORSE)]}),
        ("pairs with scores", {"score_a": 9.5}),
    ],
)
def test_equal_judgements_prefer_nothing(name: str, tie: dict[str, Any]) -> None:
    assert not read_pair(PUBLISHED[name]).tied
    with pytest.raises(Unusable, match="undecided"):
        read_pair(PUBLISHED[name] | tie)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("nvidia/HelpSteer3", {"overall_preference": "much"}, "'overall_preference' holds str 'much', not a number"),
        ("PKU-Alignment/PKU-SafeRLHF", {"better_response_id": 2}, "holds int '2': 0 prefers response_0, 1 response_1"),
        ("lmsys/chatbot_arena_conversations", {"winner": "b"}, "use model_a, model_b or tie"),
        ("berkeley-nest/Nectar", {"answers": [{"answer": BETTER, "rank": 1}]}, "at least two responses"),
        ("berkeley-nest/Nectar", {"answers": [BETTER, WORSE]}, "give each response as answer, with rank or score"),
        ("openbmb/UltraFeedback", {"completions": "none"}, "holds str 'none'"),
        ("nvidia/HelpSteer3", {"overall_preference": "nan"}, "not a number"),
        ("nvidia/HelpSteer3", {"overall_preference": None}, r"'overall_preference' holds nothing \(null\)"),
        ("pairs with scores", {"score_a": 10**400}, "not a number"),
        ("openbmb/UltraFeedback", {"completions": [{"response": "A", "score": "NaN"}] * 2}, "not a number"),
    ],
)
def test_a_judgement_that_is_none_says_why(name: str, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        read_pair(PUBLISHED[name] | wrong)


@pytest.mark.parametrize("name", ["nvidia/HelpSteer3", "stanfordnlp/SHP", "lmsys/chatbot_arena_conversations"])
def test_a_system_column_beside_a_judgement_is_read(name: str) -> None:
    assert read_pair(PUBLISHED[name] | {"system": "S."}).prompt == [
        {"role": "system", "content": "S."},
        *expected(name).prompt,
    ]


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0", True])
def test_a_label_is_a_number_however_it_is_written(label: Any) -> None:
    assert read_pair(SHP | {"labels": label}).chosen == BETTER
    assert read_pair(PUBLISHED["PKU-Alignment/PKU-SafeRLHF"] | {"better_response_id": label}).chosen == BETTER


def test_a_file_says_which_judgement_is_missing(tmp_path: Path) -> None:
    path = write(
        [PUBLISHED["nvidia/HelpSteer3"], PUBLISHED["nvidia/HelpSteer3"] | {"overall_preference": None}],
        tmp_path / "r.jsonl",
    )
    rows = as_pairs(load_source(Dataset("file", str(path)))["train"].rows, None, {})
    assert rows["detail"][1] == "column 'overall_preference' holds nothing (null), not a number"


def test_a_judgement_beside_a_pair_is_not_read() -> None:
    row = {"prompt": ASKED, "chosen": BETTER, "rejected": WORSE, "answers": ["x"]}
    assert (read_pair(row).chosen, read_pair(row).rejected) == (BETTER, WORSE)


def test_shp_without_scores_is_no_tie(tmp_path: Path) -> None:
    bare = {key: SHP[key] for key in ("history", "human_ref_A", "human_ref_B", "labels")}
    assert read(write([bare], tmp_path / "rows.jsonl")) == [Pair([{"role": "user", "content": ASKED}], BETTER, WORSE)]


def single(completion: str, label: Any, prompt: str = ASKED) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label}


def test_labelled_single_responses_are_put_together_by_their_prompts(tmp_path: Path) -> None:
    """In the order of the file: the first good with the first bad one, the second with the second."""
    rows = [
        *(single(BETTER, True), single("Other.", True, "Another?"), single("Good again.", True)),
        *(single(WORSE, False), single("Bad again.", False), single("Nothing.", False, "A third?")),
    ]
    for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
        found: Any = as_pairs(load_source(Dataset("file", str(write(rows, tmp_path / name))))["train"].rows, None, {})
        assert [(row["chosen"], row["rejected"]) for row in found.select([0, 1])] == [
            (BETTER, WORSE),
            ("Good again.", "Bad again."),
        ]
        assert found["row"] == [3, 4, 1, 5] and found["problem"] == ["", "", "alone", "alone"]


def test_two_conversations_differ_by_any_turn() -> None:
    turns = [{"role": "user", "content": ASKED}]
    rows = [
        {"prompt": turns, "completion": [{"role": "assistant", "content": BETTER}], "label": 1},
        {"prompt": turns, "completion": [{"role": "assistant", "content": WORSE}], "label": 0},
        {"prompt": turns, "system": "Be brief.", "completion": [{"role": "assistant", "content": WORSE}], "label": 0},
    ]
    found: Any = as_pairs(rows, None, {})
    assert [(row["chosen"], row["problem"]) for row in found] == [(BETTER, ""), ("", "alone")]


def test_a_label_that_says_neither_is_told() -> None:
    found: Any = as_pairs([single(BETTER, "so-so")], None, {})
    assert found["detail"][0] == "column 'label' holds str 'so-so': true is a good response, false a bad one"


def test_a_bad_response_is_no_demonstration() -> None:
    assert read_demonstration(single(BETTER, True)).chosen == BETTER
    with pytest.raises(Malformed, match="its label calls the response bad"):
        read_demonstration(single(WORSE, False))
