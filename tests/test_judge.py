"""Judges against an endpoint that drops connections, limits rates and answers nonsense: every verdict once, no key."""

import json
import os
import re
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from door import QUIET, ROOT, run, wait_until
from judge_server import KEY, Endpoint, Messages, endpoint

from eval.answers.endpoint import Reply
from eval.answers.judging import MALFORMED
from eval.answers.pairwise import read
from eval.commands.cli import read_words
from eval.judge import Options, Pair, compare, main, pages
from eval.results import statistics
from eval.results.result import measured
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


def pair(ours: Path, theirs: Path) -> Pair:
    return Pair(str(ours), str(theirs), [(ours, theirs)])


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
        main([*map(str, sides)], Options(judge="judge", url=server.url))
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
    check_result(json.loads(file.with_suffix(".json").read_text()), lines)
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


NAMES, SEEDS, QUESTIONS = {"base": "base model", "sft": "SFT", "orpo": "ORPO"}, (0, 1, 2), 10
QUALITIES = np.random.default_rng(0).integers(0, 4, (len(NAMES), len(SEEDS), QUESTIONS)) + np.array(
    [[[0]], [[1]], [[4]]]
)
EVALUATION = {"prompts": QUESTIONS}
UNREADABLE = ("SFT", 1, 3)  # whose answer to that question, with which seed, no judge can read


def by_quality(messages: Messages) -> str:
    """The answer of the higher quality is better, where both can be read."""
    one, other = (shown(messages, name).split() for name in ("answer_A", "answer_B"))
    if "garbled" in (one[0], other[0]):
        return "Hm."
    return "[[A]]" if int(one[1]) > int(other[1]) else "[[B]]" if int(one[1]) < int(other[1]) else "[[C]]"


def session(directory: Path, *pipelines: str) -> Path:
    """Three seeds of two pipelines, or of the named ones, from one base model, all evaluated."""
    for place, seed in enumerate(SEEDS):
        stages = {name: directory / (name if name == "base" else f"{name}-{seed}") for name in NAMES}
        for number, (name, stage) in enumerate(stages.items()):
            (stage / "eval").mkdir(parents=True, exist_ok=True)
            qualities = QUALITIES[number, 0 if name == "base" else seed]
            said = [
                "garbled" if (NAMES[name], seed, asked) == UNREADABLE else f"worth {quality} {name}"
                for asked, quality in enumerate(qualities)
            ]
            rows = [
                {"prompt": f"prompt {n}", "text": text, "tokens": 3, "stopped": True} for n, text in enumerate(said)
            ]
            found = {"greedy": rows, "clusters": {"prompts": [n // 2 for n in range(QUESTIONS)]}}
            measured(stage, EVALUATION).write_text(json.dumps(found))
            newer = [row | {"text": "worth 0 another sweep's"} for row in rows]
            (stage / "eval" / "newer.json").write_text(json.dumps({"greedy": newer}))
        job: dict[str, Any] = {"base": str(stages["base"]), "evaluation": EVALUATION, "overrides": []}
        job |= {"setting": {}, "seed": seed, "errors": []}
        job["pipelines"] = {name: [str(stages[name])] for name in pipelines or ("sft", "orpo")}
        (directory / "session" / str(place)).mkdir(parents=True)
        (directory / "session" / str(place) / "job.json").write_text(json.dumps(job))
    return directory / "session"


def test_a_sessions_seeds_are_joined_and_its_pairs_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of the qualities that the judge saw, without the prompt that it could not read."""
    monkeypatch.setattr("eval.answers.judging.ATTEMPTS", 1)
    named = session(tmp_path)
    with endpoint(by_quality) as server:
        main([str(named)], Options(judge="judge", url=server.url, base=True))
    base, sft, orpo = QUALITIES[0, [0, 0, 0]], QUALITIES[1], QUALITIES[2]
    readable = [number for number in range(QUESTIONS) if number != UNREADABLE[2]]
    clusters = np.arange(QUESTIONS) // 2
    expected = statistics.holm(
        [
            statistics.compare(base[:, readable], sft[:, readable], clusters[readable]),
            statistics.compare(base, orpo, clusters),
            statistics.compare(sft[:, readable], orpo[:, readable], clusters[readable]),
        ]
    )
    found = json.loads((named / "judge.json").read_text())
    assert [(one["ours"], one["theirs"]) for one in found] == [*combinations(NAMES.values(), 2)]
    for one, wanted, prompts in zip(found, expected, (9, 10, 9), strict=True):
        assert (one["seeds"], one["judged"], one["prompts"]) == ([0, 1, 2], prompts, 10)
        assert one["win_rate"] == pytest.approx(asdict(wanted.rate))
        assert one["p"] == pytest.approx(wanted.p) and one["p_holm"] == pytest.approx(wanted.adjusted)
        assert one["verdict"] == wanted.verdict and one["same_in_both_orders"] == 1
        assert one["questions"] == 2 * 3 * 10
    assert any(one["p_holm"] > one["p"] for one in found)
    printed = capsys.readouterr().out
    assert "greedy responses of 3 pairs of pipelines" in printed and " 180 questions to judge, 180 still" in printed
    assert "1. ORPO (" in printed and ", 2. SFT (" in printed and ", 3. base model (" in printed
    assert printed.count("1 prompts left out") == 2 and "p after Holm over 3 pairs" in printed


def test_the_base_model_is_left_out_and_what_was_judged_is_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = session(tmp_path)
    with endpoint(by_quality) as server:
        for _ in range(2):
            main([str(named)], Options(judge="judge", url=server.url, prompts=2, input_price=1, output_price=1))
    (found,) = json.loads((named / "judge.json").read_text())
    assert (found["ours"], found["theirs"], found["questions"]) == ("SFT", "ORPO", 2 * 3 * 2)
    assert {" 12 questions to judge, 12 still", " 12 questions to judge, 0 still"} == {
        line.partition(" to ask")[0] for line in capsys.readouterr().out.splitlines() if " questions " in line
    }


def test_a_refused_key_is_said_without_the_key(
    sides: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with endpoint(decide, ["refuse"] * 100) as server, pytest.raises(UserError) as found:
        compare([pair(*sides)], Options(judge="judge", url=server.url, key="JUDGE_KEY", prompts=2))
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
        compare([pair(*sides)], Options(judge="x", url="https://judge.example.com/v1", key="NO_KEY"))
    alone = session(tmp_path / "alone", "sft")
    with pytest.raises(UserError, match=f"{alone} has one pipeline and nothing to compare it with: add base=true"):
        main([str(alone)], Options(judge="x"))
    ((_, (found,)),) = pages([str(alone)], base=True)
    assert (found.ours, found.theirs) == ("base model", "SFT")
    (tmp_path / "other.jsonl").write_text('{"prompt": "unheard of", "response": "x"}\n')
    with pytest.raises(UserError, match="share no prompt"):
        compare([pair(sides[0], tmp_path / "other.jsonl")], Options(judge="x"))


def test_two_letters_in_one_reply_are_no_verdict() -> None:
    assert read(Reply("so [[A]]")) == "A"
    assert read(Reply("[[A]] or [[B]]")) is None and read(Reply("A")) is None and read(Reply("")) is None
