"""Answers that exist: the formats they are published in, and sessions whose pipelines are compared."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from eval.answers.files import read_answers
from eval.commands.cli import models
from eval.commands.cli import run as suite
from eval.judge import Options, Pair, main, pages
from eval.results.result import measured
from recipes.config import FORMAT, UserError, write_config


@pytest.mark.parametrize(
    "row", [{"prompt": "a", "response": "b"}, {"instruction": "a", "output": "b"}, {"prompt": "a", "text": "b"}]
)
def test_every_published_format_is_read(row: dict[str, str], tmp_path: Path) -> None:
    listed, lines, packed = tmp_path / "a.json", tmp_path / "a.jsonl", tmp_path / "a.json.gz"
    listed.write_text(json.dumps([row], indent=1))
    lines.write_text(json.dumps(row) + "\n\n")
    packed.write_bytes(gzip.compress(listed.read_bytes()))
    assert [read_answers(path) for path in (listed, lines, packed)] == [{"a": "b"}] * 3


def test_what_is_no_file_of_answers_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for content, message in [
        ("{no", "cannot be read"),
        ("[]", "no rows"),
        ('{"prompt": "a"}', "no text in response"),
        ('{"prompt": "a", "response": "b"}\n' * 2, "1 prompts are repeated"),
    ]:
        path.write_text(content)
        with pytest.raises(UserError, match=message) as found:
            read_answers(path)
        assert str(path) in str(found.value) and "\n" not in str(found.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_answers(tmp_path / "absent.json")


def stage(directory: Path, answers: Any) -> str:
    (directory / "eval").mkdir(parents=True)
    write_config(directory, {"format": FORMAT, "stage": directory.name})
    (directory / "eval" / "12345678.json").write_text(json.dumps({"greedy": answers}))
    (directory / "eval" / "judge-0.json").write_text(json.dumps({"win_rate": 1}))  # newer, and no answers
    return str(directory)


def test_the_pipelines_of_a_session_are_compared_with_each_other(tmp_path: Path) -> None:
    answers = [{"prompt": "a", "text": text, "tokens": 1, "stopped": True} for text in ("first", "again")]
    base, sft, orpo = (stage(tmp_path / name, answers) for name in ("base", "sft", "orpo"))
    job = {
        "base": base,
        "evaluation": {},
        "overrides": [],
        "seed": 0,
        "errors": [],
        "pipelines": {"sft": [sft], "orpo": [orpo]},
    }
    (tmp_path / "session" / "0").mkdir(parents=True)
    (tmp_path / "session" / "0" / "job.json").write_text(json.dumps(job))
    session = str(tmp_path / "session")
    assert list(models([session, sft])) == [Path(base), Path(sft), Path(orpo)]
    ((named, pairs),) = pages([session], base=True)
    assert named == Path(session) and pairs == [
        Pair(*names, [places], [0], files=[tuple(measured(place, {}) for place in places)])  # type: ignore[arg-type]
        for names, places in (
            (("base model", "SFT"), (Path(base), Path(sft))),
            (("base model", "ORPO"), (Path(base), Path(orpo))),
            (("SFT", "ORPO"), (Path(sft), Path(orpo))),
        )
    ]
    assert pages([sft, orpo], base=False) == [(None, [Pair(sft, orpo, [(Path(sft), Path(orpo))])])]
    assert read_answers(Path(orpo)) == {"a": "first"}
    with pytest.raises(UserError, match="no sampled responses: evaluate it first"):
        read_answers(Path(orpo), "sampled")


def test_help_lists_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert suite(["--help"], "What it does.", Options, main) == 0
    said = capsys.readouterr().out
    assert said.startswith("What it does.") and "judge=…" in said and "prompts=null" in said and "base=false" in said
