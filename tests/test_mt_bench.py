"""MT-Bench's two turns: what the judge is shown and asked, what its ratings become, and a stage's own answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonl import write_rows
from judge_server import Messages, endpoint
from samples import both

from eval.answers.endpoint import Reply
from eval.answers.judging import MALFORMED
from eval.mt_bench import WITH_REFERENCE, Options, dialogue, grade, read

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Write a poem.", "Shorter!"]},
    {"question_id": 2, "category": "math", "turns": ["What is 6 * 7?", "And half of it?"]},
    {"question_id": 3, "category": "stem", "turns": ["What is a cell?", "And a virus?"]},
]


def write(path: Path, rows: list[Any]) -> str:
    return str(write_rows(path, rows))


def turns(number: int, *texts: str) -> dict[str, Any]:
    return {"question_id": number, "choices": [{"index": 0, "turns": list(texts)}]}


def options(directory: Path, url: str, **more: Any) -> Options:
    references = [turns(2, "forty-two", "twenty-one")]
    questions = write(directory / "question.jsonl", QUESTIONS)
    return Options(
        judge="judge", url=url, questions=questions, references=write(directory / "gpt-4.jsonl", references), **more
    )


def test_each_turn_is_graded_as_the_protocol_says(tmp_path: Path) -> None:
    seen: list[str] = []

    def decide(messages: Messages) -> str:
        text = messages[-1]["content"]
        seen.append(text)
        if "What is a cell?" in text:
            return "I would say eleven: [[11]]"
        return f"Rating: [[{4 if '### Assistant A:' in text else 9}]]"

    answers = write(tmp_path / "answers.jsonl", [turns(n, f"first of {n}", f"second of {n}") for n in (1, 2, 3)])
    with endpoint(decide, ["drop", "limit", "broken"]) as server:
        found = grade(Path(answers), options(tmp_path, server.url))
    assert found["judged"] == 2 and found["malformed"] == 2, "eleven is no rating, and no zero either"
    assert found["turns"] == [9, 4] and found["score"]["mean"] == 6.5
    assert found["categories"] == {"writing": 6.5, "math": 6.5}
    for text in seen:
        second = "### Assistant A:" in text
        assert ("second of" in text) == second and "first of" in text
        assert ("forty-two" in text) == ("6 * 7" in text) and ("twenty-one" in text) == ("6 * 7" in text and second)


def test_a_stage_answers_its_second_turn_after_its_first(tiny_model: Path, tmp_path: Path) -> None:
    with endpoint(lambda messages: "[[5]]") as server:
        given = options(tmp_path, server.url, max_new_tokens=4)
        found = grade(tiny_model, given)
        asked = sum(server.answered.values())
        assert grade(tiny_model, given) == found and sum(server.answered.values()) == asked == 6
    (file,) = (tiny_model / "eval").glob("mt-bench-answers-*.jsonl")
    answered = {
        row["question_id"]: row["choices"][0]["turns"] for row in map(json.loads, file.read_text().splitlines())
    }
    assert all(len(texts) == 2 for texts in answered.values())
    assert found["score"] == {"mean": 5, "low": 5, "high": 5, "spread": None}
    assert dialogue(QUESTIONS[0], answered[1], 1) == [
        {"role": "user", "content": "Write a poem."},
        {"role": "assistant", "content": answered[1][0]},
        {"role": "user", "content": "Shorter!"},
    ]


@pytest.mark.parametrize("folder", both("mt_bench"))
def test_all_questions_of_a_file_are_graded_in_both_turns(folder: Path, tmp_path: Path) -> None:
    questions = [json.loads(line) for line in (folder / "question.jsonl").read_text().splitlines()]
    answers = write(tmp_path / "answers.jsonl", [turns(row["question_id"], "yes", "no") for row in questions])
    with_reference = []

    def decide(messages: Messages) -> str:
        with_reference.append("Reference" in messages[-1]["content"])
        return "[[1]]"

    with endpoint(decide) as server:
        given = Options(judge="judge", url=server.url, questions=str(folder / "question.jsonl"))
        given.references = str(folder / "reference_answer_gpt-4.jsonl")
        found = grade(Path(answers), given)
    assert found["judged"] == len(questions) in (8, 80) and found["questions"] == 2 * len(questions)
    # three of eight categories, of as many questions each
    assert (
        sum(with_reference) == 2 * sum(row["category"] in WITH_REFERENCE for row in questions) == len(questions) * 3 / 4
    )
    assert len(found["categories"]) == 8


def test_a_rating_is_read_as_fastchat_reads_it() -> None:
    assert read(Reply("Rating: [[7.5]]")) == 7.5 and read(Reply("Rating: [7]")) == 7
    assert read(Reply("[[3]] … or rather [[4]]")) == 3
    assert read(Reply("seven")) is None and read(Reply("[[0]]")) is None and MALFORMED != 0
