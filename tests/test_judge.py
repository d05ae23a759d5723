"""Judges against an endpoint that drops connections, limits rates and answers nonsense: every verdict once, no key."""

import json
import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from door import QUIET, ROOT, run, wait_until
from judge_server import KEY, Endpoint, Messages, endpoint

from eval.answers.endpoint import Reply, host_class
from eval.answers.judging import MALFORMED
from eval.commands.cli import read_words
from eval.judge import Options, compare, read
from recipes.config import UserError

FAULTS = ["drop", "limit", "broken", "half", "hang", *["none", "drop", "none", "limit"] * 4]
PROMPTS = 24


def shown(messages: Messages, name: str) -> str:
    found = re.search(f"<{name}>\n(.*?)\n</{name}>", messages[-1]["content"], re.DOTALL)
    assert found
    return found[1]


def decide(messages: Messages) -> str:
    """The good answer wins; on every fourth prompt the first one does; every sixth has no readable verdict."""
    number = int(shown(messages, "request").split()[-1])
    if number % 6 == 5:
        return f"Both are fine, says {KEY}."
    if number % 4 == 0:
        return "The first: [[A]]"
    return "[[A]]" if shown(messages, "answer_A").startswith("good") else "[[B]]"


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Ours is good on even prompts, theirs on odd ones."""
    paths = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    for parity, path in enumerate(paths):
        rows = [
            {"prompt": f"prompt {number}", "response": f"{'good' if number % 2 == parity else 'bad'} {number}"}
            for number in range(PROMPTS)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def words(server: Endpoint, sides: tuple[Path, Path], *more: str) -> list[str]:
    options = ["judge=judge", f"url={server.url}", "key=JUDGE_KEY", "timeout=5", *more]
    return [sys.executable, "-m", "eval.judge", *map(str, sides), *options]


def kept(directory: Path) -> list[dict[str, Any]]:
    (file,) = directory.glob("judge-*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_verdict_is_there_once_after_faults_and_a_kill(sides: tuple[Path, Path], tmp_path: Path) -> None:
    environment = {**os.environ, **QUIET, "JUDGE_KEY": KEY}
    with endpoint(decide, FAULTS, delay=0.05) as server:
        process = subprocess.Popen(
            words(server, sides, "concurrency=2"), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        wait_until(
            lambda: sum(len(file.read_text().splitlines()) for file in tmp_path.glob("judge-*.jsonl")) >= 12, process
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        (file,) = tmp_path.glob("judge-*.jsonl")
        before = file.read_bytes()[: file.read_bytes().rfind(b"\n") + 1]
        file.write_bytes(before + b'{"id": "23-ba", "verd')  # as a kill in the middle of a line leaves it
        done = len(before.splitlines())
        asked_before = sum(server.answered.values())
        output = run(words(server, sides, "input_price=1", "output_price=2"), JUDGE_KEY=KEY)
        asked_after = sum(server.answered.values())
        assert server.keys == {f"Bearer {KEY}"}
        result = compare(*sides, Options(judge="judge", url=server.url))
        assert sum(server.answered.values()) == asked_after, "what is judged is not asked again"
    assert f"{2 * PROMPTS - done} still to ask" in output and "at most about $" in output
    lines = kept(tmp_path)
    assert file.read_bytes().startswith(before)
    assert sorted(line["id"] for line in lines) == sorted(
        f"{n}-{order}" for n in range(PROMPTS) for order in ("ab", "ba")
    )
    malformed = [line for line in lines if line["verdict"] == MALFORMED]
    assert {int(line["id"].split("-")[0]) for line in malformed} == {n for n in range(PROMPTS) if n % 6 == 5}
    assert all(line["attempts"] == 3 for line in malformed)
    in_vain = asked_after - asked_before - sum(line["attempts"] for line in lines[done:])
    assert 0 <= in_vain <= 2, "only what was under way when the kill came"
    assert json.loads(file.with_suffix(".json").read_text()) == result
    check_result(result, lines)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in output


def check_result(result: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    """Of 20 readable prompts ours wins those both orders agree on: the even ones that are no multiple of four."""
    readable = [n for n in range(PROMPTS) if n % 6 != 5]
    scores = [0.5 if n % 4 == 0 else float(n % 2 == 0) for n in readable]
    assert result["judged"] == len(readable) == 20 and result["malformed"] == 8
    assert result["win_rate"]["mean"] == pytest.approx(sum(scores) / len(scores))
    assert result["same_in_both_orders"] == pytest.approx(sum(n % 4 != 0 for n in readable) / len(readable))
    biased = sum(n % 4 == 0 for n in readable) / len(readable)
    assert result["first_preferred"] == pytest.approx(0.5 + biased / 2)
    assert result["input_tokens"] == sum(line["input_tokens"] for line in lines)
    assert result["dollars"] is None, "the last command named no prices"
    assert (result["judge"], result["judge_reported"], result["host"]) == ("judge", ["judge-2026"], "this machine")


def test_a_refused_key_is_said_without_the_key(
    sides: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with endpoint(decide, ["refuse"] * 100) as server, pytest.raises(UserError) as found:
        compare(*sides, Options(judge="judge", url=server.url, key="JUDGE_KEY", prompts=2))
    assert "Incorrect API key" in str(found.value) and "$JUDGE_KEY" in str(found.value)
    assert KEY not in "".join(traceback.format_exception(found.value))
    assert not kept(tmp_path)


def test_what_a_user_can_get_wrong_is_said(sides: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="judge must be given: add judge=…"):
        read_words(["a", "b"], Options)
    with pytest.raises(UserError, match="juge: no such option; choose from judge, url"):
        read_words(["juge=x", "judge=y"], Options)
    with pytest.raises(UserError, match="timeout: Value 'soon'"):
        read_words(["judge=x", "timeout=soon"], Options)
    with pytest.raises(UserError, match=r"^\$NO_KEY is not set"):
        compare(*sides, Options(judge="x", url="https://judge.example.com/v1", key="NO_KEY"))
    (tmp_path / "other.jsonl").write_text('{"prompt": "unheard of", "response": "x"}\n')
    with pytest.raises(UserError, match="share no prompt"):
        compare(sides[0], tmp_path / "other.jsonl", Options(judge="x"))


def test_two_letters_in_one_reply_are_no_verdict() -> None:
    assert read(Reply("so [[A]]")) == "A"
    assert read(Reply("[[A]] or [[B]]")) is None and read(Reply("A")) is None and read(Reply("")) is None


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://localhost:8000/v1", "this machine"),
        ("http://127.0.0.1/v1", "this machine"),
        ("http://[::1]:80/v1", "this machine"),
        ("http://10.1.2.3/v1", "private network"),
        ("http://gpu7:8000/v1", "private network"),
        ("https://api.openai.com/v1", "api.openai.com"),
        ("https://judge.example.com/v1", "public host"),
    ],
)
def test_a_host_is_named_by_its_kind(url: str, kind: str) -> None:
    assert host_class(url) == kind
