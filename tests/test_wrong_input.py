"""Whatever a user can get wrong in an evaluation is one line and exit status 2, never a traceback."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval import alpaca, diversity, judge, likelihood, mt_bench, table
from eval.answers.endpoint import Endpoint, complete
from eval.answers.judging import log
from eval.answers.store import Kept
from eval.commands.cli import NoOptions, run
from eval.results.table import write_table
from launch.config.trl_options import is_mirror
from paper import claims
from recipes.config import UserError

FOREIGN = ["[]", "3", '"text"', "null", '{"a": 1}', '[{"a": 1}]', '{"chosen": [], "sampled": [], "greedy": []}', "{"]
Say = Callable[..., str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run a suite on words; assert that it ends with one line of an error and return it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def said(suite: Any, *words: object) -> str:
        kind = getattr(suite, "Options", NoOptions)
        assert run([str(word) for word in words], suite.__doc__, kind, suite.main) == 2
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line]
        assert line.startswith("error: ") and len(line) < 500
        return line

    return said


def test_words_that_are_none_are_said(say: Say, untuned: Path, tmp_path: Path) -> None:
    for suite in (alpaca, claims, diversity, judge, likelihood, mt_bench, table):
        assert "no such option" in say(suite, "=x") and "nonsense" in say(suite, "nonsense=1")
    assert "prompts: " in say(diversity, untuned, "prompts=many")
    assert "no session" in say(likelihood, tmp_path) and "no trained stage" in say(likelihood, __file__)
    assert "is no endpoint" in say(diversity, untuned, "endpoint=localhost:8000")
    secret = "http://me:secret@host/v1"  # pragma: allowlist secret
    assert "must not contain a password" in say(diversity, untuned, f"endpoint={secret}")
    assert "is no endpoint" in say(diversity, untuned, "endpoint=http://host:port/v1")
    assert "served=<model>" in say(diversity, untuned, "endpoint=http://localhost:1/v1", "chat=true", "prompts=2")
    assert "cannot be read" in say(judge, "none.json", "none.json", "judge=x")
    assert "cannot be read" in say(mt_bench, "questions=none", "references=none", "judge=x", untuned)
    assert "add judge=MODEL" in say(alpaca, untuned)


@pytest.mark.parametrize("text", FOREIGN)
def test_json_of_somebody_else_is_said(say: Say, text: str, untuned: Path, tmp_path: Path) -> None:
    file = tmp_path / "foreign.json"
    file.write_text(text)
    assert "foreign.json" in say(judge, file, file, "judge=x")
    assert "foreign.json" in say(alpaca, file, "judge=x", f"reference={file}")
    assert "foreign.json" in say(mt_bench, file, f"questions={file}", f"references={file}", "judge=x")
    (untuned / "eval").mkdir()
    (untuned / "eval" / "12345678.json").write_text(text)
    line = say(judge, untuned, untuned, "judge=x")
    assert "evaluate it first" in line or "damaged" in line
    if text != "{":  # a line that a kill tore is asked again
        with pytest.raises(UserError, match="no response of this project"):
            (untuned / "eval" / "answers.jsonl").write_text(text + "\n")
            Kept(untuned / "eval" / "answers.jsonl")
        assert not is_mirror(json.loads(text)), "the launcher's cache is made anew"
    file.write_text(text + "\n")
    with pytest.raises(UserError, match="no file of verdicts"), log(file):
        pass


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("name", ["session/0/job.json", "stage/record.json", "stage/eval/result.json"])
def test_a_session_with_foreign_files_is_said(say: Say, text: str, name: str, tmp_path: Path) -> None:
    from eval.results.result import measured

    settings = {"prompts": 1}
    stage, base = tmp_path / "stage", tmp_path / "base"
    job = {"overrides": [], "seed": 0, "model": "m", "dataset": "d", "base": str(base), "evaluation": settings}
    job |= {"pipelines": {"orpo": [str(stage)]}, "errors": [], "wanted": ["orpo"]}
    kept = {"prompt": "?", "text": "!", "tokens": 1, "stopped": True}
    result = {"chosen": [-1.0, -2.0], "rejected": [-2.0, -2.5], "sampled": [kept] * 2, "greedy": [kept] * 2}
    result |= {"further": [[], []], "clusters": {"prompts": [0, 1], "pairs": [0, 1], "passages": [0, 1]}}
    result |= {"tokens": {"chosen": [1, 1], "rejected": [1, 1]}, "kl": [[0.0], [0.0]]}
    result |= {"text": [1.0, 2.0], "base_text": [1.0, 2.0]}
    cost = {"tokens": 1, "computed_tokens": 1, "forward_passes_per_pair": 1, "flops": 1, "epochs": 1, "stage": "orpo"}
    cost |= {"device_seconds": 1, "peak_memory_bytes": 1, "pairs": 1}
    files = {tmp_path / "session/0/job.json": job, stage / "record.json": cost}
    files |= {measured(directory, settings): result for directory in (stage, base)}
    for path, value in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    session = tmp_path / "session"
    write_table(session)
    (measured(stage, settings) if name.endswith("result.json") else tmp_path / name).write_text(text)
    with pytest.raises(UserError) as found:
        write_table(session)
    assert "\n" not in str(found.value) and str(tmp_path) in str(found.value)


def test_an_endpoint_that_is_not_there_is_said() -> None:
    before = time.monotonic()
    with pytest.raises(UserError, match=r"does not respond.*run the same command to resume") as found:
        complete(Endpoint("http://127.0.0.1:9/v1", "x", True), [{"role": "user", "content": "?"}])
    assert time.monotonic() - before < 10, "one that is not there is not asked eight times"
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-schlüssel", "sk one", os.fsdecode(b"sk-\xff")])
def test_a_key_that_cannot_be_one_is_said_without_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANGE_KEY", key)
    with pytest.raises(UserError, match=r"\$STRANGE_KEY contains characters") as found:
        complete(Endpoint("http://127.0.0.1:9/v1", "x", True, "STRANGE_KEY"), [{"role": "user", "content": "?"}])
    assert "sk" not in str(found.value)
