"""`make pairs`: which responses make a pair, and the file that a comparison then reads."""

import json
import sys
from pathlib import Path

import pytest
from door import ROOT, run

from eval.answers.on_policy import EQUAL, FEW, Scored, as_row, choose
from eval.answers.store import Answer
from launch.stages.prompts import prompt_of, prompts_of
from pocket.gold import score
from pocket.pairs import splits
from recipes.config import UserError
from recipes.data.rows import read_rows
from recipes.profiles import Dataset


def scored(*rows: tuple[float, int, bool]) -> list[Scored]:
    """Responses of given score, length and end."""
    return [
        Scored(Answer(f"response {place}", tokens, stopped), score)
        for place, (score, tokens, stopped) in enumerate(rows)
    ]


def test_the_best_and_the_worst_of_the_most_equal_lengths_make_a_pair() -> None:
    pair = choose(scored((1, 9, True), (0, 30, True), (1, 28, True), (0.5, 28, True), (0, 3, True)))
    assert pair.chosen and pair.rejected
    assert (pair.chosen.answer.text, pair.rejected.answer.text) == ("response 2", "response 1")
    assert (pair.chosen.score, pair.rejected.score) == (1, 0)


def test_what_was_cut_off_or_is_empty_is_no_part_of_a_pair() -> None:
    pair = choose([*scored((2, 9, False), (1, 9, True), (0, 9, True)), Scored(Answer("  ", 0, True), -1.0)])
    assert pair.chosen and pair.rejected and (pair.chosen.score, pair.rejected.score) == (1, 0)
    assert choose(scored((1, 9, True), (0, 9, False))).reason == FEW


def test_scores_within_the_margin_make_no_pair() -> None:
    assert choose(scored((1, 9, True), (1, 5, True))).reason == EQUAL
    assert choose(scored((1.0, 9, True), (0.5, 5, True)), margin=0.5).reason == EQUAL
    assert choose(scored((1.0, 9, True), (0.5, 5, True)), margin=0.4).reason is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the embedded model's responses to twelve prompts, whose rows have one more column."""
    home = tmp_path_factory.mktemp("made")
    prompts = [
        json.dumps({"prompt": prompt, "topic": f"t{place}"}) for place, prompt in enumerate(splits()["train"][:12])
    ]
    (home / "prompts.jsonl").write_text("\n".join(prompts))
    (home / "said.txt").write_text(sample(home, "pairs.jsonl"))
    return home


def sample(home: Path, to: str, *more: str, status: int = 0) -> str:
    words = [f"dataset={home / 'prompts.jsonl'}", f"to={home / to}", "max_new_tokens=32", f"runs={home / 'runs'}"]
    options = ["model=pocket", "gold=pocket", "answers=4"]
    return run([sys.executable, "-m", "launch.pairs", *words, *options, *more], status, ROOT)


def test_a_comparison_reads_the_pairs(made: Path) -> None:
    rows = [json.loads(line) for line in (made / "pairs.jsonl").read_text().splitlines()]
    assert 3 <= len(rows) <= 12 and f"{len(rows)} pairs of 12 prompts" in (made / "said.txt").read_text()
    for row in rows:
        prompt = row["prompt"][-1]["content"]
        rewards = [score(prompt, row[side][0]["content"]).reward for side in ("chosen", "rejected")]
        assert rewards == [row["score_chosen"], row["score_rejected"]] and rewards[0] > rewards[1]
        assert row["topic"].startswith("t") and "pocket@" in row["made_by"]
    read = read_rows([Dataset("made", str(made / "pairs.jsonl"), cluster="topic")])["train"]
    assert [*read["problem"]] == [""] * len(rows) and [*read["cluster"]] == [row["topic"] for row in rows]


def test_every_answer_is_kept_and_given_once(made: Path) -> None:
    answers = [json.loads(line) for line in (made / "pairs-answers.jsonl").read_text().splitlines()]
    assert [len(row["answers"]) for row in answers] == [4] * 12
    (kept,) = made.glob("runs/*/*/base-*/eval/answers.jsonl")
    before = kept.stat().st_mtime_ns
    kept.rename(kept.with_name("whole"))
    lines = kept.with_name("whole").read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:20]))  # as an interruption leaves it
    sample(made, "again.jsonl")
    assert (made / "again.jsonl").read_text() == (made / "pairs.jsonl").read_text()
    assert sorted(kept.read_text().splitlines()) == sorted(map(str.strip, lines)) and kept.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    "more, said",
    [
        (["gold=null"], "name a scorer"),
        (["judge=reward:x"], "name a scorer"),
        (["gold=nowhere.py:f"], "there is no local file nowhere.py"),
        (["answers=1"], "answers must be at least 2"),
        (["to=pairs.csv"], "name a new file"),
        (["model=null"], "name the model that answers"),
        (["dataset=nowhere.jsonl"], "nowhere.jsonl"),
        (["model=pockett"], "pockett"),
        (["answer=3"], "no such option"),
        (["prompts=0"], "prompts=0: give a number, at least 1"),
        (["to={made}/qa.jsonl"], "qa-answers.jsonl, where all answers would be written"),
    ],
)
def test_what_cannot_be_done_is_said_first(made: Path, more: list[str], said: str) -> None:
    source = made / "qa-answers.jsonl"  # a user's, which happens to be called so
    source.write_text("mine")
    printed = sample(made, "third.jsonl", *(word.format(made=made) for word in more), status=2)
    assert said in " ".join(printed.split()) and not (made / "third.jsonl").exists()
    assert source.read_text() == "mine"


def test_a_prompt_is_all_that_a_comparison_will_show_the_model() -> None:
    """The system turn of a column of its own too; what scored other responses says nothing of the new ones."""
    row = {"question": "Why?", "prompt": "", "system": "Be brief.", "topic": "t", "score_chosen": 9.0, "chosen": "So."}
    prompt = prompt_of(row)
    assert prompt and prompt.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]
    assert prompt.more == {"topic": "t"}
    made = as_row(prompt.messages, choose(scored((1, 9, True), (0, 9, True))), {"score_chosen": 9.0, "topic": "t"})
    assert (made["score_chosen"], made["score_rejected"], made["topic"]) == (1, 0, "t")
    assert prompt_of({"conversations": [{"from": "human", "value": "Why?"}]}) is not None
    assert prompt_of({"prompt": [{"role": "assistant", "content": "So."}]}) is None
    with pytest.raises(UserError, match="the column 'tools' cannot be used here"):
        prompt_of(row | {"tools": [{"name": "f"}]})


def test_rows_without_a_prompt_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Why?"}\n{"prompt": \n{"topic": "t"}\n')
    assert len(prompts_of(str(file))) == 1
    assert "2 of 3 rows have no readable prompt: left out" in capsys.readouterr().err
