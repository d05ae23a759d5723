"""The published data sets' own columns, as files, through the code path that reads the hub's."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset as Rows

from recipes.config import UserError
from recipes.data.messages import Malformed
from recipes.data.rows import as_pairs
from recipes.data.schemas import Pair, read_pair
from recipes.data.sources import load_source
from recipes.profiles import Dataset


def user(text: str) -> dict[str, str]:
    return {"content": text, "role": "user"}


def assistant(text: str) -> dict[str, str]:
    return {"content": text, "role": "assistant"}


ASKED, BETTER, WORSE = "Where is Ashford?", "By the river.", "No idea."
WHOLE = {"chosen": [user(ASKED), assistant(BETTER)], "rejected": [user(ASKED), assistant(WORSE)]}
EARLIER = [user("Hello."), assistant("Hello!")]
SHP: dict[str, Any] = {
    **{"post_id": "qt3nxl", "domain": "askculinary_train", "upvote_ratio": 0.98, "history": ASKED},
    **{
        "c_root_id_A": "hkh25sc",
        "c_root_id_B": "hkh25lp",
        "created_at_utc_A": 1636822112,
        "created_at_utc_B": 1636822110,
    },
    **{"score_A": 340, "score_B": 166, "human_ref_A": BETTER, "human_ref_B": WORSE, "labels": 1},
    **{"seconds_difference": 2.0, "score_ratio": 2.0481927711},
}
# Data set -> a row with exactly its columns.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Anthropic/hh-rlhf": {
        "chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {BETTER}",
        "rejected": f"\n\nHuman: {ASKED}\n\nAssistant: {WORSE}",
    },
    "HuggingFaceH4/ultrafeedback_binarized": {
        **{"prompt": ASKED, "prompt_id": "0" * 64, **WHOLE, "messages": WHOLE["chosen"]},
        **{"score_chosen": 8.5, "score_rejected": 7.0},
    },
    "argilla/ultrafeedback-binarized-preferences-cleaned": {
        **{"source": "sharegpt", "prompt": ASKED, "chosen": WHOLE["chosen"], "chosen-rating": 4.5},
        **{"chosen-model": "gpt-4", "rejected": WHOLE["rejected"], "rejected-rating": 3.75, "rejected-model": "llama"},
    },
    "argilla/distilabel-capybara-dpo-7k-binarized": {
        **{
            "source": "Dove",
            "conversation": [{"input": "Hello.", "output": "Hello!"}, {"input": ASKED, "output": BETTER}],
        },
        **{"original_response": BETTER, "generation_prompt": ["p"], "raw_generation_responses": ["r"]},
        **{"new_generations": [WORSE], "prompt": f"Hello.\nHello!\n{ASKED}"},
        **{"chosen": [*EARLIER, *WHOLE["chosen"]], "rejected": [*EARLIER, *WHOLE["rejected"]]},
        **{"rating_chosen": 5, "rating_rejected": 4, "chosen_model": "a", "rejected_model": "b"},
    },
    "mlabonne/orpo-dpo-mix-40k": {"source": "Airoboros", **WHOLE, "prompt": ASKED, "question": ASKED},
    "stanfordnlp/SHP": SHP,
    "nvidia/HelpSteer3": {
        **{"domain": "general", "language": "english", "context": [user(ASKED)], "response1": WORSE},
        **{"response2": BETTER, "overall_preference": 2},
        "individual_preference": [{"score": 2, "reasoning": "It says where.", "feedback1": "No.", "feedback2": "Yes."}],
    },
    "PKU-Alignment/PKU-SafeRLHF": {
        **{"prompt": ASKED, "response_0": WORSE, "response_1": BETTER, "is_response_0_safe": True},
        **{"better_response_id": 1, "safer_response_id": 0},
    },
    "lmsys/chatbot_arena_conversations": {
        **{"question_id": "q", "model_a": "a", "model_b": "b", "winner": "model_b", "judge": "j", "turn": 1},
        **{"conversation_a": [user(ASKED), assistant(WORSE)], "conversation_b": [user(ASKED), assistant(BETTER)]},
    },
    "berkeley-nest/Nectar": {
        "prompt": f"\n\nHuman: {ASKED}\n\nAssistant: ",
        "answers": [
            {"answer": text, "model": "m", "rank": rank}
            for text, rank in (("In a vale.", 2.0), (BETTER, 1.0), (WORSE, 7.0))
        ],
        **{"turns": 1, "num_responses": 3, "source": ["sharegpt"], "good_natured": True},
    },
    "openbmb/UltraFeedback": {
        **{"source": "sharegpt", "instruction": ASKED, "models": ["a", "b", "c"]},
        "completions": [
            {"response": text, "model": "m", "overall_score": score}
            for text, score in (("In a vale.", 6.0), (WORSE, 2.5), (BETTER, 8.5))
        ],
    },
    "pairs with scores": {
        **{"prompt": ASKED, "response_a": WORSE, "response_b": BETTER, "score_a": 2, "score_b": 9.5},
    },
}
SCORED = {
    "HuggingFaceH4/ultrafeedback_binarized": ("score_chosen", "score_rejected"),
    "argilla/ultrafeedback-binarized-preferences-cleaned": ("chosen-rating", "rejected-rating"),
    "argilla/distilabel-capybara-dpo-7k-binarized": ("rating_chosen", "rating_rejected"),
    "stanfordnlp/SHP": ("score_A", "score_B"),
}


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    made = Rows.from_list(rows)
    if path.suffix == ".parquet":
        made.to_parquet(str(path))
    elif path.suffix == ".csv":
        made.to_csv(str(path))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        made.to_json(str(path), compression="gzip" if path.suffix == ".gz" else None)
    return path


def read(path: Path) -> list[Pair]:
    return [read_pair(row) for row in load_source(Dataset("file", str(path)))["train"].rows]  # type: ignore[arg-type]


def expected(name: str) -> Pair:
    prompt = [{"role": "user", "content": ASKED}]
    if "capybara" in name:
        prompt = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}, *prompt]
    return Pair(prompt, BETTER, WORSE)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_columns_are_read(tmp_path: Path, name: str, ending: str) -> None:
    path = write([PUBLISHED[name]] * 2, tmp_path / f"rows.{ending}")
    assert read(path) == [expected(name)] * 2


@pytest.mark.parametrize("name", ["Anthropic/hh-rlhf", "stanfordnlp/SHP"])
def test_columns_of_plain_text_are_read_from_csv(tmp_path: Path, name: str) -> None:
    assert read(write([PUBLISHED[name]], tmp_path / "rows.csv")) == [expected(name)]


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
def test_equal_judgements_are_a_tie(name: str, tie: dict[str, Any]) -> None:
    assert not read_pair(PUBLISHED[name]).tied and read_pair(PUBLISHED[name] | tie).tied


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


CALL: dict[str, Any] = {"function": {"name": "f", "arguments": {}}}
WRITTEN = [CALL, json.dumps(CALL), {"function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize("call", WRITTEN)
def test_a_tool_call_may_be_json(call: Any) -> None:
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    row = {"prompt": ASKED, "chosen": [turn], "rejected": WORSE}
    assert read_pair(row).extra["chosen"]["tool_calls"] == [CALL]
    with pytest.raises(Malformed, match="a tool call that is int '7', not an object"):
        read_pair(row | {"chosen": [turn | {"tool_calls": [7]}]})


def test_a_judgement_beside_a_pair_is_not_read() -> None:
    row = {"prompt": ASKED, "chosen": BETTER, "rejected": WORSE, "answers": ["x"]}
    assert (read_pair(row).chosen, read_pair(row).rejected) == (BETTER, WORSE)


def test_shp_without_scores_is_no_tie(tmp_path: Path) -> None:
    bare = {key: SHP[key] for key in ("history", "human_ref_A", "human_ref_B", "labels")}
    assert read(write([bare], tmp_path / "rows.jsonl")) == [Pair([{"role": "user", "content": ASKED}], BETTER, WORSE)]


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


def test_other_columns_are_named_in_the_refusal(tmp_path: Path) -> None:
    path = write([{"history": ASKED, "human_ref_A": BETTER, "human_ref_B": WORSE}], tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="no column 'chosen' and no column 'rejected'; its columns are history"):
        read(path)
