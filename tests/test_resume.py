"""Killed, interrupted or started twice: the same command goes on, and the weights are those of an undisturbed run."""

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from door import (
    PATIENCE,
    Process,
    descendants,
    halted,
    kill,
    launch,
    losses,
    run,
    stages,
    start,
    start_warm,
    trainer_of,
    wait_for_step,
    weights,
)

from recipes.config import read_config, read_json

Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def undisturbed(words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], bytes]:
    """Options of an ORPO stage with checkpoints, and its weights when nothing happens to it."""
    runs = tmp_path_factory.mktemp("undisturbed")
    options = ["pipeline=orpo", "orpo.max_steps=60", "orpo.save_steps=5", "orpo.learning_rate=1e-3"]
    launch(*words(runs, *options))
    return options, weights(stages(runs)[0])


def test_a_killed_dpo_scores_its_reference_again_and_ends_with_the_same_weights(words: Words, tmp_path: Path) -> None:
    """The reference is the start, not the checkpoint's policy; its second pass costs time, and is counted."""
    options = ["pipeline=dpo", "sft.max_steps=2", "dpo.num_train_epochs=4", "dpo.save_steps=5", "dpo.beta=0.5"]
    options += ["dpo.learning_rate=1e-3"]
    launch(*words(tmp_path / "whole", *options))
    expected = weights(stages(tmp_path / "whole", "dpo-*")[0])
    process = start_warm(*words(tmp_path / "killed", *options))
    directory = wait_for_step(tmp_path / "killed", 20, process)  # the reference pass counts to 12
    kill(trainer_of(directory))
    process.communicate(timeout=PATIENCE)
    launch(*words(tmp_path / "killed", *options))
    assert "resuming from checkpoint-" in (directory / "log.txt").read_text()
    assert weights(directory) == expected


def test_a_killed_launcher_takes_its_stage_along_which_resumes_bit_for_bit(
    words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path
) -> None:
    options, expected = undisturbed
    process = start(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 12, process)
    kill(process.pid)
    process.communicate(timeout=PATIENCE)
    assert not (directory / "model").exists()
    printed = launch(*words(tmp_path, *options))
    resumed = re.search(r"resuming from checkpoint-(\d+)", (directory / "log.txt").read_text())
    assert resumed and f"resumed at step {resumed[1]}" in printed
    assert weights(directory) == expected
    assert len(losses(directory)) == 1 + 60 // 10  # the first update and every tenth, none twice


def test_a_copied_run_goes_on_in_its_own_place(
    words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path
) -> None:
    options, expected = undisturbed
    process = start(*words(tmp_path / "runs", *options))
    directory = wait_for_step(tmp_path / "runs", 12, process)
    kill(process.pid)
    process.communicate(timeout=PATIENCE)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    copy = tmp_path / "copy" / directory.relative_to(tmp_path / "runs")
    run([sys.executable, "-m", "launch.run", str(copy)])
    assert "resuming from checkpoint-" in (copy / "log.txt").read_text() and weights(copy) == expected
    assert before == {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    shutil.rmtree(tmp_path / "runs")
    launch(*words(tmp_path / "copy", *options))
    assert Path(read_config(copy)["pairs"]).is_relative_to(tmp_path / "copy"), "the moved pairs are known"


@pytest.mark.parametrize(
    "begin, end",
    [
        (start, lambda pid: os.killpg(pid, signal.SIGINT)),  # the process that stages are forked from hears it too
        (start_warm, lambda pid: os.kill(pid, signal.SIGTERM)),
    ],
    ids=["ctrl_c", "sigterm"],
)
def test_ctrl_c_and_sigterm_leave_a_resumable_stage(
    words: Words,
    undisturbed: tuple[list[str], bytes],
    tmp_path: Path,
    begin: Callable[..., Process],
    end: Callable[[int], None],
) -> None:
    options, expected = undisturbed
    process = begin(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 12, process)
    with halted(trainer_of(directory)):
        end(process.pid)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "interrupted" in printed and "stopping after this step" in printed
    assert "Traceback" not in printed and "leaked" not in printed, printed
    with pytest.raises(AssertionError, match="nothing runs"):
        trainer_of(directory)
    launch(*words(tmp_path, *options))
    assert weights(directory) == expected


@pytest.mark.parametrize("engine", ["packed", "stock"])
def test_a_kill_after_the_last_step_adds_none(words: Words, tmp_path: Path, engine: str) -> None:
    """The last step is the fifth of an epoch's seven: Transformers would go on with the sixth."""
    options = ["pipeline=orpo", "orpo.max_steps=5", "orpo.save_steps=1", "orpo.learning_rate=1e-3", "batch_size=8"]
    options += [f"orpo.engine={engine}", "orpo.save_total_limit=null", "hardware.per_device_batch=8"]
    launch(*words(tmp_path, *options))
    (directory,) = stages(tmp_path)
    expected = weights(directory)
    (directory / "record.json").unlink()  # as if it had been killed before it was written
    shutil.rmtree(directory / "model")
    launch(*words(tmp_path, *options))
    assert "resuming from checkpoint-5" in (directory / "log.txt").read_text()
    assert weights(directory) == expected and read_json(directory / "record.json")["updates"] == 5


def test_a_resumed_kto_has_the_reference_point_of_its_last_step(words: Words, tmp_path: Path) -> None:
    """Two things read it before another is estimated: an evaluation on start, and a last step of a single pair."""
    options = ["pipeline=kto", "sft.max_steps=2", "kto.logging_steps=1", "kto.save_steps=1", "kto.eval_steps=1"]
    options += ["kto.eval_strategy=steps", "kto.eval_on_start=true", "kto.save_total_limit=null", "batch_size=10"]
    options += [
        "kto.learning_rate=1e-3",
        "kto.desirable_weight=4",
        "hardware.per_device_batch=10",
        "dataset.train_rows=51",
    ]
    launch(*words(tmp_path, *options))
    (directory,) = stages(tmp_path, "kto-*")
    expected, steps = weights(directory), read_json(directory / "record.json")["updates"]
    assert read_json(directory / "record.json")["pairs"] % 10 == 1, "the last step is one pair's"
    (directory / "record.json").unlink()  # as if it had been killed after the last step but one
    shutil.rmtree(directory / "model")
    shutil.rmtree(directory / f"checkpoint-{steps}")
    launch(*words(tmp_path, *options))
    assert f"resuming from checkpoint-{steps - 1}" in (directory / "log.txt").read_text()
    log = [json.loads(line) for line in (directory / "log_history.jsonl").read_text().splitlines()]
    point = {entry["step"]: entry["kl"] for entry in log if "kl" in entry}
    assert point[steps - 1] > 0 and point[steps] == pytest.approx(point[steps - 1])
    first, again = (entry for entry in log if "eval_loss" in entry and entry["step"] == steps - 1)
    assert again["eval_loss"] == first["eval_loss"] and again["eval_kl"] == first["eval_kl"]
    assert weights(directory) == expected


def test_a_killed_evaluation_is_no_success(words: Words, tmp_path: Path) -> None:
    more = ["orpo.max_steps=2", "evaluate=true", "dataset.max_new_tokens=400", "eval_prompts=10"]
    process = start_warm(*words(tmp_path, "pipeline=orpo", *more))
    while process.poll() is None and not list(tmp_path.glob("*/*/orpo-*/record.json")):
        time.sleep(0.05)
    evaluation = None
    while process.poll() is None and evaluation is None:
        evaluation = next((pid for pid, name in descendants(process.pid).items() if name == "eval"), None)
    assert evaluation, "it has ended before it could be killed"
    kill(evaluation)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "the evaluation was killed by signal 9" in printed


def test_a_stage_is_finished_by_hand_as_by_the_launcher(
    words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path
) -> None:
    options, expected = undisturbed
    process = start_warm(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 12, process)
    kill(trainer_of(directory))
    process.communicate(timeout=PATIENCE)
    by_hand = [sys.executable, "-m", "launch.run"]
    run([*by_hand, str(directory)])
    assert weights(directory) == expected and not list(directory.glob("checkpoint-*"))
    assert "done before" in launch(*words(tmp_path, *options))
    (base,) = tmp_path.glob("*/*/base-*")
    for wrong, reason in ((tmp_path, "does not exist"), (base, "is a base model")):
        printed = run([*by_hand, str(wrong)], status=2)
        assert reason in printed and len(printed.splitlines()) == 1


def test_two_launches_at_once_train_once(words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path) -> None:
    options, expected = undisturbed
    both = [start_warm(*words(tmp_path, *options)) for _ in range(2)]
    printed = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    (directory,) = stages(tmp_path)
    assert (directory / "log.txt").read_text().count("train_runtime") == 1
    assert any("waiting" in text or "done before" in text for text in printed)
    assert weights(directory) == expected


def test_a_changed_learning_rate_is_not_swallowed_by_a_resume(words: Words, tmp_path: Path) -> None:
    """Stock TRL resumes with the checkpoint's rate, whatever is asked for; here another rate is another stage."""
    slow, fast = ["pipeline=orpo", "orpo.max_steps=40", "orpo.save_steps=5", "orpo.learning_rate=1e-4"], "1e-3"
    process = start_warm(*words(tmp_path / "interrupted", *slow))
    directory = wait_for_step(tmp_path / "interrupted", 12, process)
    kill(trainer_of(directory))
    process.communicate(timeout=PATIENCE)
    for runs in ("interrupted", "fresh"):
        launch(*words(tmp_path / runs, *slow[:-1], f"orpo.learning_rate={fast}"))
    (fresh,) = stages(tmp_path / "fresh")
    (changed,) = [path for path in stages(tmp_path / "interrupted") if path.name == fresh.name]
    assert changed != directory and weights(changed) == weights(fresh)


def test_the_best_checkpoint_is_kept_and_becomes_the_model(words: Words, tmp_path: Path) -> None:
    """The weights are those of a training that ends at its step, though only one other checkpoint is kept.

    Here the *largest* held-out loss is the best: it falls from step to step, so an early checkpoint has to survive.
    """
    common = ["pipeline=orpo", "dataset.validation_fraction=0.2", "orpo.lr_scheduler_type=constant"]
    common += ["orpo.warmup_steps=0", "orpo.learning_rate=1e-3"]
    often = [f"orpo.{name}=1" for name in ("eval_steps", "save_steps", "save_total_limit")]
    often += ["orpo.eval_strategy=steps", "orpo.load_best_model_at_end=true", "orpo.metric_for_best_model=eval_loss"]
    often += ["orpo.greater_is_better=true"]
    launch(*words(tmp_path / "best", *common, *often, "orpo.max_steps=7"))
    (best,) = stages(tmp_path / "best")
    entries = map(json.loads, (best / "log_history.jsonl").read_text().splitlines())
    found = {entry["step"]: entry["eval_loss"] for entry in entries if "eval_loss" in entry}
    step = max(found, key=lambda step: found[step])
    assert len(found) == 7 and step < 6, found
    launch(*words(tmp_path / "short", *common, f"orpo.max_steps={step}"))
    assert weights(best) == weights(stages(tmp_path / "short")[0])
