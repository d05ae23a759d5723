"""Stages and measurements whose code has changed since: told; stages also trained again or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import SEEDS, make_session
from door import ROOT, command, launch, record, run, short, stages, weights

from eval.__main__ import evaluate_session
from recipes.system.fingerprint import fingerprint

Words = Callable[..., list[str]]
PARTS = ("recipes", "launch", "pocket", "conf", ".cache")  # what a training needs, and what it has looked up before
TWO = ("pipeline=dpo", "sft.max_steps=1", "dpo.max_steps=2", "dpo.save_steps=1", "dpo.save_total_limit=null")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, to be edited."""
    for part in PARTS:
        if (ROOT / part).exists():
            shutil.copytree(ROOT / part, tmp_path / "tree" / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tree"


def add(path: Path, line: str) -> None:
    """Add a line to the end of a file."""
    path.write_text(f"{path.read_text()}{line}\n")


def line_of(stage: Path, printed: str, words: str) -> str:
    """The one line about a stage that has these words, from there on."""
    (line,) = (line for line in printed.splitlines() if str(stage) in line and words in line)
    return line.partition(words)[2]


def test_what_other_code_trained_is_told_refused_or_trained_again(checkout: Path, words: Words, tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    def train(*more: str, status: int = 0) -> str:
        return run(command(*words(runs, *TWO, *more)), status, cwd=checkout)

    train()
    dpo, sft = stages(runs)
    first = {stage: record(stage) for stage in (sft, dpo)}
    assert "recipes/sft.py" in first[sft]["code"] and sft.name in first[dpo]["code"]

    add(checkout / "recipes" / "sft.py", "# a comment")
    (dpo / "record.json").write_text(json.dumps({**first[dpo], "code": {}}))  # as of an older version
    printed = train("stale=refuse")
    assert line_of(sft, printed, "skipped") == "", "a comment decides no weight"
    assert line_of(dpo, printed, "skipped (").startswith("its record is from an older version")
    (dpo / "record.json").write_text(json.dumps(first[dpo]))

    add(checkout / "recipes" / "dpo.py", "LATER = 1")
    printed = train()
    assert line_of(dpo, printed, "skipped (").startswith("changed since: recipes/dpo.py; stale=retrain")
    assert line_of(sft, printed, "skipped") == "" and record(dpo) == first[dpo], "kept"

    printed = train("stale=refuse", status=2)
    assert line_of(dpo, printed, "error: ") and "these changed: recipes/dpo.py;" in printed and "started" not in printed

    add(checkout / "recipes" / "sft.py", "LATER = 1")
    (dpo / "record.json").unlink()  # as if it had been killed at its end: checkpoints are there
    assert line_of(dpo, train(), "resumes (").startswith("changed since: recipes/dpo.py; "), "its start is the old one"
    assert record(dpo)["code"] == first[dpo]["code"], "that it began with"

    train("stale=retrain")
    aside = runs / "_stale" / dpo.parent.parent.name / dpo.parent.name
    assert json.loads((aside / f"{sft.name}.1" / "record.json").read_text()) == first[sft]
    assert (aside / f"{dpo.name}.1" / "model" / "model.safetensors").is_file(), "its start was trained again"
    assert record(sft)["code"] != first[sft]["code"] and record(dpo)["code"][sft.name] != first[dpo]["code"][sft.name]
    assert "changed" not in train("stale=refuse") and len(list(aside.iterdir())) == 2


def test_a_measurement_that_other_code_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No model is there: whatever were measured again would fail."""
    session = make_session(tmp_path)
    paths = sorted(tmp_path.glob("*/dpo/eval/*.json"))
    assert len(paths) == len(SEEDS) > 1

    def told() -> list[str]:
        evaluate_session(session)
        return capsys.readouterr().out.splitlines()

    (line,) = told()
    assert line.startswith("8 measurements are from an older version"), "of four models and two seeds"
    now = fingerprint("eval.results.measure")
    assert {"eval/results/measure.py", "eval/answers/decode.py", "pocket/world.py"} <= now.keys()
    results = {path for path in now if path.startswith("eval/results/")}
    measuring = ("beside", "clusters", "judged", "measure", "prompts", "result", "stale")
    assert results == {f"eval/results/{name}.py" for name in measuring}, "no row, no table"
    for path, code in zip(paths, (now, now | {"eval/answers/decode.py": "other"}), strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "code": code}))
    line, rest = told()
    assert f"{paths[1].parent.parent} was measured before these changed: eval/answers/decode.py; move" in line
    assert rest.startswith("6 measurements"), "what today's code made is not told"


def test_an_adapter_trained_again_is_merged_again(words: Words, tmp_path: Path) -> None:
    """Its record was damaged; `model/` is that of the training before."""
    options = words(tmp_path, "pipeline=orpo", "tuning=lora", *short("orpo"))
    launch(*options)
    (directory,) = stages(tmp_path)
    merged = weights(directory)
    (directory / "model" / "model.safetensors").write_bytes(b"of before")
    (directory / "record.json").write_text("{")
    launch(*options)
    assert weights(directory) == merged
