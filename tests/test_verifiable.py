"""The verifiable data set: every check against hand-written responses and IFEval's own, and what the splits share."""

import gzip
import json
from pathlib import Path

import pytest
import yaml

from verifiable.gold import is_answer, score
from verifiable.instructions import INSTRUCTIONS
from verifiable.prompts import known, prompts, write
from verifiable.topics import TRAINED, UNSEEN, names

ROOT = Path(__file__).parent.parent
CASES = yaml.safe_load((Path(__file__).parent / "data" / "verifiable.yaml").read_text())


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_right_and_wrong_responses_of_each_kind(kind: str) -> None:
    followed = INSTRUCTIONS[kind].followed
    assert [text for text in CASES[kind]["right"] if not followed(text)] == []
    assert [text for text in CASES[kind]["wrong"] if followed(text)] == []


def test_there_are_ten_of_both() -> None:
    assert [*CASES] == [*INSTRUCTIONS]
    assert {len(cases[verdict]) for cases in CASES.values() for verdict in ("right", "wrong")} == {10}


def test_no_topic_and_no_prompt_is_in_two_splits() -> None:
    train, test = ({prompt.prompt for prompt in prompts(split)} for split in ("train", "test"))
    assert not train & test and len(train) == len(prompts("train")) and len(test) == len(prompts("test"))
    assert not any(names(topic, other) or names(other, topic) for topic in TRAINED for other in UNSEEN)


def test_the_empty_and_the_endless_earn_nothing() -> None:
    for prompt in prompts("test")[:40]:
        topic, kind = prompt.topic, INSTRUCTIONS[prompt.kind]
        for text in ("", " ", topic, f"{topic} " * 40, "All is quiet on this long and empty evening here."):
            assert score(prompt.prompt, text) == 0.0, (text, kind)


def test_an_answer_names_its_topic() -> None:
    assert is_answer("A River is a long way for water to go.", "rivers")
    assert is_answer("One potato is as good as any other to me.", "potatoes")
    assert not is_answer("A road is a long way for cars to go.", "rivers")


def test_prompts_written_are_those_that_the_reward_knows(tmp_path: Path) -> None:
    write(tmp_path)
    rows = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert {row["prompt"] for row in rows} == {*known()}
    with pytest.raises(ValueError, match="no prompt of the verifiable data set"):
        score("What else?", "Nothing.")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_pairs_are_ordered_by_the_reward_and_of_their_own_split(split: str) -> None:
    packed = (ROOT / "verifiable" / "pairs" / f"{split}.jsonl.gz").read_bytes()
    pairs = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    asked = {prompt.prompt: prompt for prompt in prompts(split)}
    assert len(pairs) > 100
    for pair in pairs:
        prompt = pair["prompt"][-1]["content"]
        assert (pair["topic"], pair["kind"]) == (asked[prompt].topic, asked[prompt].kind)
        scores = [score(prompt, pair[side][0]["content"]) for side in ("chosen", "rejected")]
        assert scores == [pair["score_chosen"], pair["score_rejected"]] == [1.0, 0.0]
