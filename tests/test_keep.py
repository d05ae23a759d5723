"""`make keep`: what a session measured, in one file, from which its table and its further seeds can be made."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import make_session
from door import ROOT, launch, short, stages
from tables import edit

from eval.keep import Options, main
from eval.report import write_report
from eval.results.result import measured
from eval.results.table import write_table
from recipes.config import UserError, read_json


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_of_what_was_kept_is_the_sessions(here: Path) -> None:
    session = make_session(Path("runs")).absolute()
    weights = here / "runs" / "seed-0" / "orpo" / "model" / "model.safetensors"
    weights.write_bytes(b"0" * 1000)
    write_table(session)
    table = (session / "table.md").read_text()
    main([str(session)], Options("first.tar.gz"))
    main([str(session)], Options("second.tar.gz"))
    with pytest.raises(UserError, match=r"TO=first\.tar\.gz: name a new file"):
        main([str(session)], Options("first.tar.gz"))
    assert Path("first.tar.gz").read_bytes() == Path("second.tar.gz").read_bytes()
    shutil.rmtree("runs")
    unpack("first.tar.gz")
    (session / "table.md").unlink()
    assert not weights.exists()
    write_table(session)
    assert (session / "table.md").read_text() == table


def test_without_texts_the_table_is_the_same(here: Path) -> None:
    session = make_session(Path("runs")).absolute()
    write_table(session)
    table = (session / "table.md").read_text()
    said = {
        answer[part]
        for path in here.glob("runs/**/eval/*.json")
        for answer in read_json(path)["sampled"]
        for part in ("prompt", "text")
    }
    home = next(here.glob("runs/**/eval"))
    others = ("answers.jsonl", "alpaca-answers-1.json", "lm-eval-0.4-ifeval-1.json", "../log.txt")
    private = [home / name for name in others] + [session / "0" / "log.txt", session / "votes" / "ada.jsonl"]
    for path in private:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"output": "said"}))
    main([str(session)], Options("kept.tar.gz", texts=False))
    shutil.rmtree("runs")
    unpack("kept.tar.gz")
    (session / "table.md").unlink()
    write_table(session)
    assert (session / "table.md").read_text() == table
    kept = "".join(path.read_text() for path in here.glob("runs/**/*") if path.is_file())
    assert len(said) > 1 and not any(json.dumps(text) in kept for text in said)
    assert not [path for path in private if path.exists()]


@pytest.mark.parametrize("data", ["verifiable", "harmless"])
def test_what_was_kept_of_the_real_comparisons_prints_their_tables(data: str, here: Path) -> None:
    unpack(str(ROOT / "docs" / f"real-{data}.tar.gz"))
    (session,) = Path("runs/_sessions").iterdir()
    table = session / "table.md"
    kept = table.read_text()
    table.unlink()
    write_report(session, write_table(session))
    assert (session / "report.html").exists() and (session / "responses.jsonl").exists()
    assert table.read_text() == kept and (ROOT / "docs" / f"real-{data}.md").read_text().endswith(kept)


def test_a_kept_session_goes_on_with_another_seed(here: Path, words: Callable[..., list[str]]) -> None:
    options = ["pipeline=orpo", "evaluate=true", "eval_prompts=4", "judge=none", *short("orpo")]
    runs = here / "runs"
    launch("-m", *words(runs, *options, "seed=0"))
    main([str(next((runs / "_sessions").iterdir()))], Options("kept.tar.gz"))
    shutil.rmtree(runs)
    unpack("kept.tar.gz")
    (kept,) = stages(runs, "orpo-*")
    printed = launch("-m", *words(runs, *options, "seed=0,1"))
    assert f"{kept}  done before, skipped" in printed and not (kept / "model").exists()
    assert len(stages(runs, "orpo-*")) == 2
    newest = max((runs / "_sessions").iterdir(), key=lambda path: path.stat().st_mtime)
    assert "seeds 0, 1" in (newest / "table.md").read_text()


def test_a_failed_job_and_a_link_are_no_reason_not_to_keep_the_rest(here: Path) -> None:
    """The judge that was trained for the session is kept, too; a job that failed at once has trained nothing."""
    (here / "elsewhere").mkdir()
    Path("runs").symlink_to("elsewhere")
    session = make_session(Path("runs"))
    edit(session, 1, pipelines={}, base="", errors=["refused"])
    (here / "runs" / "judge").mkdir()
    (here / "runs" / "judge" / "record.json").write_text("{}")
    job = json.loads((session / "0" / "job.json").read_text())
    edit(session, 0, evaluation=job["evaluation"] | {"judge": "runs/judge"})
    settings = json.loads((session / "0" / "job.json").read_text())["evaluation"]
    for stage in ("base", "seed-0/sft", "seed-0/dpo", "seed-0/orpo"):
        directory = Path("runs") / stage
        next((directory / "eval").iterdir()).rename(measured(directory, settings))
    main([str(session)], Options("kept.tar.gz"))
    with tarfile.open("kept.tar.gz") as packed:
        names = packed.getnames()
    assert "runs/judge/record.json" in names and "runs/session/1/job.json" in names
    assert not any("seed-1" in name for name in names)


def test_stages_that_jobs_share_are_kept_without_measurements(here: Path) -> None:
    """SFT of a sweep on several GPUs is a job of its own, which nobody evaluates."""
    session = make_session(Path("runs"))
    job = json.loads((session / "0" / "job.json").read_text())
    stage = job["pipelines"]["sft"][0]
    shared = session / "shared" / "1-sft-0"
    shared.mkdir(parents=True)
    settings = job["evaluation"] | {"seed": 9}  # of which nothing was measured
    (shared / "job.json").write_text(
        json.dumps(job | {"pipelines": {"sft": [stage]}, "wanted": ["sft"], "evaluation": settings})
    )
    main([str(session)], Options("kept.tar.gz"))
    with tarfile.open("kept.tar.gz") as packed:
        assert "runs/session/shared/1-sft-0/job.json" in packed.getnames()


def unpack(name: str) -> None:
    with tarfile.open(name) as packed:
        packed.extractall(filter="data")


def test_what_cannot_be_kept_is_told_and_nothing_is_written(here: Path) -> None:
    session = make_session(Path("runs")).absolute()
    for given, said in (("kept.zip", "with the ending .tar.gz"), ("", "with the ending .tar.gz")):
        with pytest.raises(UserError, match=said):
            main([str(session)], Options(given))
    edit(session, 1, wanted=["sft", "dpo", "orpo", "kto"])
    with pytest.raises(UserError, match=r"kto is not finished: type the command of .* again"):
        main([str(session)], Options("kept.tar.gz"))
    edit(session, 1, wanted=["sft", "dpo", "orpo"])
    shutil.rmtree(here / "runs" / "seed-1" / "orpo" / "eval")
    with pytest.raises(UserError, match=r"seed-1/orpo is not measured .*make eval RUNS="):
        main([str(session)], Options("kept.tar.gz"))
    (here / "runs" / "seed-1" / "dpo" / "record.json").unlink()
    with pytest.raises(UserError, match=r"seed-1/dpo is not finished: type the command of .* again"):
        main([str(session)], Options("kept.tar.gz"))
    assert [path.name for path in here.iterdir()] == ["runs"]


def test_a_session_of_another_place_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(here / "runs")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with pytest.raises(UserError, match="from the directory in which it was trained"):
        main([str(session)], Options("kept.tar.gz"))
