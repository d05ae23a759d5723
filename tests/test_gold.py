"""`dataset.gold=file.py:function`: a user's own score decides a comparison, and fails before anything trains."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from door import launch, short

from eval.answers.gold import gold_of, identity
from launch.stages.evaluation import of_gold
from recipes.config import UserError

Words = Callable[..., list[str]]
LENGTHS = "def score(prompt: str, response: str) -> int:\n    return len(response)\n"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(code: str) -> str:
        (tmp_path / "mine.py").write_text(code)
        return f"{tmp_path / 'mine.py'}:score"

    return write


def test_a_users_function_decides_a_comparison(words: Words, tmp_path: Path, file: Callable[[str], str]) -> None:
    runs, options = tmp_path / "runs", ["pipeline=sft+orpo,orpo", "eval_prompts=4", *short("sft", "orpo")]
    printed = launch("-m", *words(runs, *options, f"dataset.gold={file(LENGTHS)}"))
    assert "gold reward: higher for the chosen response in " in printed
    (table,) = runs.glob("_sessions/*/table.json")
    rows = [row for row in json.loads(table.read_text())["rows"] if row["pipeline"] != "base"]
    (session,) = (runs / "_sessions").iterdir()
    found = [json.loads(line) for line in (session / "responses.jsonl").read_text().splitlines()]
    for row in rows:
        said = [one for one in found if one["pipeline"] == row["pipeline"] and one["temperature"] == 1]
        assert all(one["gold"] == len(one["text"]) for one in said)
        assert row["values"]["gold_sampled"]["mean"] == pytest.approx(sum(one["gold"] for one in said) / len(said))
        assert row["values"]["right_sampled"] is None, "only the embedded world's reward has parts"
    text = (session / "table.md").read_text()
    assert "by the gold reward of the responses" in text and "embedded world" not in text


@pytest.mark.parametrize(
    "code, said",
    [
        ("def other(prompt, response):\n    return 1\n", "has no function score"),
        ("import nowhere_to_be_found\n", "cannot be imported: ModuleNotFoundError"),
        ("def score(prompt, response):\n    return 1 / 0\n", "ZeroDivisionError"),
        ("def score(prompt, response):\n    return float('nan')\n", "return a finite number"),
        ("def score(prompt, response):\n    return 'good'\n", "ValueError"),
        ("def score(response):\n    return 1\n", "TypeError"),
        ("from random import random\n\ndef score(prompt, response):\n    return random()\n", "make it deterministic"),
    ],
)
def test_a_function_that_cannot_score_is_rejected_before_training(
    words: Words, tmp_path: Path, file: Callable[[str], str], code: str, said: str
) -> None:
    runs = tmp_path / "runs"
    printed = launch("-m", *words(runs, "pipeline=orpo", "evaluate=true", f"dataset.gold={file(code)}"), status=2)
    assert said in " ".join(printed.split())
    assert not list(runs.glob("*/*/orpo-*"))


@pytest.mark.parametrize("name", ["score", "mine.py:score", "os:system", "nowhere.at.all:score", "pocket.gold:", ":f"])
def test_only_a_function_of_a_local_file_is_taken(name: str) -> None:
    """Not of an installed module: `os:system` would run what a model says."""
    with pytest.raises(UserError, match=r"dataset.gold="):
        gold_of(name)
    with pytest.raises(UserError, match=r"dataset.gold="):
        identity(name)


def test_a_measurement_is_named_by_the_functions_code(file: Callable[[str], str]) -> None:
    one, other = identity(file(LENGTHS)), identity(file(LENGTHS.replace("len(response)", "-len(response)")))
    assert one["gold"] == other["gold"] and one["gold_code"] != other["gold_code"]
    assert of_gold(None) == {"gold": False} and of_gold("pocket") == {"gold": True}
