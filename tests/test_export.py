"""A finished stage: trained again with the same bits, exported with the same answers, and sent alone."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from door import launch, run, stages
from hub_server import Hub, listening
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from eval import export, push
from eval.commands import gguf
from eval.commands.cli import run as suite
from eval.export import Options
from launch import reproduce
from recipes.config import UserError, read_json
from recipes.training.compare import difference

Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def stage(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ORPO stage that has learnt a little."""
    runs = tmp_path_factory.mktemp("runs")
    launch(*words(runs, "pipeline=orpo", "orpo.max_steps=40", "orpo.learning_rate=3e-3"))
    (directory,) = stages(runs)
    return directory


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_a_stage_is_reproduced_bit_for_bit_and_left_alone(stage: Path) -> None:
    before = files(stage)
    printed = run([sys.executable, "-m", "launch.reproduce", str(stage)])
    assert "the weights are equal bit for bit" in printed and " then, " not in printed
    assert files(stage) == before
    (twin,) = stage.parents[2].glob("_reproduced/*/*/orpo-*")
    found = read_json(twin / "reproduction.json")
    assert found["largest_difference"] == 0.0 and found["same_bits"] and not found["metrics_that_differ"]


def test_what_cannot_be_reproduced_is_one_line(stage: Path, tmp_path: Path) -> None:
    (base,) = stage.parent.glob("base-*")
    copied = tmp_path / "runs" / "model" / "data" / stage.name
    shutil.copytree(stage, copied)
    config = (copied / "config.yaml").read_text()
    for old, new, said in (
        ("\npairs: /", "\npairs: /gone/", "are missing"),
        ("\nstart: /", "\nstart: /gone/", "is missing: train that stage"),
    ):
        (copied / "config.yaml").write_text(config.replace(old, new))
        with pytest.raises(UserError, match=said):
            reproduce.original(copied)
    with pytest.raises(UserError, match="is a base model"):
        reproduce.original(base)
    (copied / "record.json").unlink()
    with pytest.raises(UserError, match=r"has no record\.json: train it first"):
        reproduce.original(copied)


def test_versions_and_commits_that_changed_are_named() -> None:
    then = {"versions": {"torch": "1", "trl": "2"}, "commit": "a", "dirty": False}
    assert reproduce.changes(then, then) == []
    now = {"versions": {"torch": "1", "trl": "3"}, "commit": "b", "dirty": True}
    lines = ["trl: 2 then, 3 now", "commit: a then, b now", "uncommitted changes: now"]
    assert reproduce.changes(then, now) == lines


def test_a_difference_is_as_large_as_the_largest_weights(tmp_path: Path) -> None:
    one = {"a": torch.zeros(3, 2), "b": torch.tensor(1.0)}
    for name, weights in {
        "one": one,
        "moved": one | {"a": torch.tensor([[0, 0], [0, -0.5], [0.25, 0]])},
        "signed": one | {"a": -torch.zeros(3, 2)},
        "turned": one | {"a": torch.zeros(2, 3)},
        "renamed": {"a": one["a"], "c": one["b"]},
    }.items():
        (tmp_path / name).mkdir()
        save_file(weights, tmp_path / name / "model.safetensors")
    found = {path.name: difference(tmp_path / "one", path) for path in tmp_path.iterdir()}
    assert found["one"] == (0.0, True) and found["moved"] == (0.5, False) and found["signed"] == (0.0, False)
    assert found["turned"] == found["renamed"] == (None, False)


def test_a_directory_for_transformers_answers_as_the_run(stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite([str(stage)], export.__doc__, Options, export.main) == 0
    assert "8 of 8 greedy responses equal the run's" in capsys.readouterr().out
    target = stage.parents[2] / "_exported" / stage.relative_to(stage.parents[2])
    assert {path.name for path in target.iterdir()} == {path.name for path in (stage / "model").iterdir()}
    assert not list(target.parent.glob(".*"))


@pytest.mark.skipif(not gguf.PLACE.is_dir(), reason="`make test` installs llama.cpp")
def test_a_file_for_llama_cpp_answers_as_the_run(
    stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "tiny.gguf"
    words = [str(stage), "format=gguf", f"to={target}", "max_new_tokens=16"]
    assert suite(words, export.__doc__, Options, export.main) == 0
    said = capsys.readouterr().out
    assert "8 of 8 greedy responses equal the run's; no log-prob of f32 weights is farther than" in said
    assert target.read_bytes()[:4] == b"GGUF" and [*tmp_path.iterdir()] == [target]
    assert suite(words, export.__doc__, Options, export.main) == 2
    assert "exists: name another target" in capsys.readouterr().out


def test_another_models_answers_leave_no_export(stage: Path, tmp_path: Path) -> None:
    copied = tmp_path / "runs" / "model" / "data" / stage.name
    shutil.copytree(stage, copied)
    options = Options(to=str(tmp_path / "out"), prompts=4, max_new_tokens=16)
    asked = export.questions(copied, options)
    weights = load_file(copied / "model" / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].flip(0)
    save_file(weights, copied / "model" / "model.safetensors", {"format": "pt"})
    assert export.questions(copied, options) == asked, "the run's answers are kept"
    with pytest.raises(UserError, match=r"nothing was exported: \d of 4 greedy responses differ from the run's"):
        export.main([str(copied)], options)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_what_cannot_be_exported_is_one_line(stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(stage, tmp_path / stage.name)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.yaml").write_text((stage / "config.yaml").read_text().replace("stage:", "size:"))
    for words, said in (
        ([str(tmp_path / stage.name)], "TO=<path>"),
        ([str(tmp_path / "base")], "is no trained language model"),
        ([str(stage), "max_new_tokens=0"], "at least 1"),
        ([str(stage), "to=/proc/out"], "/proc"),
    ):
        assert suite(words, export.__doc__, Options, export.main) == 2
        printed = capsys.readouterr().out
        assert said in printed and len(printed.splitlines()) == 1


def test_a_pre_tokenizer_that_llama_cpp_lacks_is_refused(tiny_model: Path) -> None:
    def unknown() -> str:
        raise NotImplementedError

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert gguf.pre_tokenizer(unknown, tokenizer) == "gpt-2" and gguf.pre_tokenizer(lambda: "qwen2", None) == "qwen2"
    tokenizer.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()
    with pytest.raises(NotImplementedError):
        gguf.pre_tokenizer(unknown, tokenizer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that listens, and the one that the client knows."""
    with listening() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield server


def test_a_push_sends_the_model_alone_and_in_private(
    stage: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str]:
        return suite([str(stage), *words], push.__doc__, push.Options, push.main), capsys.readouterr().out

    monkeypatch.delenv("HF_TOKEN", raising=False)
    (stage / "model" / "notes.txt").write_text("not for others")
    try:
        status, printed = said("to=me/tiny", "dry_run=true")
        assert status == 0 and f"{hub.url}/me/tiny, private" in printed and "not uploaded: notes.txt" in printed
        assert "$HF_TOKEN is not set" in said("to=me/tiny")[1] and said("to=tiny")[0] == 2 and not hub.tokens
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
        status, printed = said("to=me/tiny")
        assert status == 0 and "hf_of_the_environment" not in printed
        assert hub.visible == "private" and hub.tokens == {"Bearer hf_of_the_environment"}
        assert hub.files == {
            path.name: path.read_bytes() for path in (stage / "model").iterdir() if path.name != "notes.txt"
        }
        hub.visible = "public"
        assert "is already public" in said("to=me/tiny")[1] and said("to=me/tiny", "public=true")[0] == 0
        config = stage / "model" / "config.json"
        whole = config.read_text()
        config.write_text(json.dumps(json.loads(whole) | {"note": "hf_of_the_environment"}))
        status, printed = said("to=me/tiny")
        config.write_text(whole)
        assert status == 2 and "contains a token" in printed and "hf_of_the_environment" not in printed
        file = tmp_path / "tiny.gguf"
        file.write_bytes(b"GGUF")
        hub.files.clear()
        assert suite([str(file), "to=me/tiny", "public=true"], push.__doc__, push.Options, push.main) == 0
        assert hub.files == {"tiny.gguf": b"GGUF"}
    finally:
        (stage / "model" / "notes.txt").unlink()
