"""A stage is forked from a warm process: the launcher stays light, weights are the same, and nothing is left behind."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from door import (
    PATIENCE,
    ROOT,
    command,
    descendants,
    kill,
    launch,
    run,
    run_alone,
    short,
    stages,
    start,
    wait_for_step,
    wait_until,
    weights,
)

from launch.config.schema import Config
from launch.stages.rehearsal import outline, rehearse_all

Words = Callable[..., list[str]]


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_a_forked_stage_has_the_weights_of_one_started_by_hand(words: Words, tmp_path: Path) -> None:
    launch(*words(tmp_path, "pipeline=orpo", *short("orpo", steps=5)))
    (directory,) = stages(tmp_path)
    forked = weights(directory)
    (directory / "record.json").unlink()
    run_alone([sys.executable, "-m", "recipes.orpo", str(directory)])
    assert (directory / "record.partial.json").exists() and weights(directory) == forked


def test_a_command_that_was_run_before_imports_no_torch_in_any_of_its_processes(tmp_path: Path) -> None:
    launcher = command(f"runs={tmp_path}", *short("orpo", steps=1))
    first, again = (run_alone(launcher, PYTHONPROFILEIMPORTTIME="1") for _ in range(2))
    assert "done before" in again
    imported = {line.rpartition("|")[2].strip() for line in again.splitlines() if line.startswith("import time:")}
    assert "hydra" in imported and "torch" not in imported
    assert " torch\n" in first  # by the process that stages are forked from


def test_only_the_launcher_stays_without_torch_and_a_kill_leaves_no_process(words: Words, tmp_path: Path) -> None:
    process = start(*words(tmp_path, "pipeline=orpo", "orpo.max_steps=1000000"))  # it ends in no test's time
    directory = wait_for_step(tmp_path, 1, process)
    children = descendants(process.pid)
    trainer = next(pid for pid, name in children.items() if name == "recipes.orpo")
    assert "libtorch" in maps(trainer) and "libtorch" not in maps(process.pid)
    kill(process.pid)
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: not any(map(alive, children)))
    assert not (directory / "record.json").exists()


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_preparation_is_no_success(words: Words, tmp_path: Path, pairs_file: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text(pairs_file.read_text() * 2000)
    process = start(*words(tmp_path / "runs", "pipeline=orpo", *short("orpo"), f"dataset.path={many}"))
    forked: dict[int, str] = {}
    while process.poll() is None and "tokenise" not in forked.values():
        forked = descendants(process.pid)
        time.sleep(0.02)
    kill(next(pid for pid, name in forked.items() if name == "tokenise"))
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "tokenise ended with exit status -9" in printed, printed
    wait_until(lambda: not any(map(alive, forked)))
    assert not list(tmp_path.glob("runs/_pairs/*/manifest.json")) and not stages(tmp_path / "runs")


def test_the_rehearsal_opens_no_gpu(compose: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a forked process, which could not use one that its parent has opened."""

    def opened(*_: object) -> None:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    config = compose("hardware=1x24gb", "pipeline=orpo", "orpo.torch_compile=true", "orpo.tf32=true")
    monkeypatch.setattr(torch.version, "cuda", "12.8")  # as in a build for GPUs
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", opened)
    rehearse_all(outline(config, None), None)


def test_a_misspelt_option_of_a_suite_is_told_before_a_model_library_is_imported() -> None:
    suites = [path.stem for path in sorted((ROOT / "eval").glob("*.py")) if ", Options, main" in path.read_text()]
    assert len(suites) > 5
    told = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {suites}: import_module(f'eval.{{name}}')\n"
        "print({'torch', 'transformers', 'lm_eval', 'trl'} & {*sys.modules})"
    )
    assert run([sys.executable, "-c", told]) == "set()\n"
