"""Sweeps on this machine: a job a process, no device lent twice; a kill or too little memory costs no finished work."""

import json
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from door import PATIENCE, launch, record, short, stages, start, trainer_of, updates, wait_for_step, wait_until
from safetensors.torch import load_file

from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.config.splits import with_folds
from launch.executors.local import Devices, device_names, needed
from launch.executors.shared import by_depth
from launch.stages.micro_batch import halve
from launch.stages.run import OutOfMemory, StageFailed, failure
from recipes.config import OUT_OF_MEMORY, UserError, splits_alike
from recipes.training.errors import in_words

Words = Callable[..., list[str]]
# Plain gradient descent, so that weights differ as gradients do.
TRAINING = ["pipeline=orpo", *short("orpo", steps=16), "orpo.optim=sgd", "orpo.learning_rate=0.1"]
SWEEP = ["-m", "launcher=local", "launcher.devices=[4,7]", "orpo.beta=0.1,0.2,0.3,0.4,0.5,0.6"]


def attempts(session: Path) -> list[dict[str, Any]]:
    """When each job of a session ran, and on which devices."""
    jobs = [json.loads(path.read_text()) for path in session.glob("*/job.json")]
    assert [job["errors"] for job in jobs] == [[]] * len(jobs)
    return [attempt for job in jobs for attempt in job["attempts"]]


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    times = [[datetime.fromisoformat(attempt[edge]) for edge in ("started", "ended")] for attempt in (one, other)]
    return max(begin for begin, _ in times) < min(end for _, end in times)


def running_in(directory: Path) -> list[Path]:
    """The processes whose output goes to a file under a directory."""
    links = [(entry, entry / "fd" / "1") for entry in Path("/proc").glob("[0-9]*")]
    return [entry for entry, link in links if os.access(link, os.R_OK) and directory in link.resolve().parents]


@pytest.fixture(scope="module")
def swept(words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, int]]:
    """A sweep of six jobs on two pretended devices, killed in its middle and typed again; what was done before it."""
    runs = tmp_path_factory.mktemp("swept")
    process = start(*SWEEP, *words(runs, *TRAINING))
    wait_until(lambda: sum((path / "record.json").exists() for path in stages(runs, "orpo-*")) >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not running_in(runs))
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/orpo-*/record.json")}
    assert 2 <= len(before) < 6
    launch(*SWEEP, *words(runs, *TRAINING))
    return runs, before


def test_the_same_command_trains_only_what_was_missing(swept: tuple[Path, dict[Path, int]]) -> None:
    runs, before = swept
    assert [record(directory)["updates"] for directory in stages(runs)] == [16] * 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    logs = [path.read_text() for path in sorted(runs.glob("_sessions/*"))[-1].glob("*/log.txt")]
    assert len(logs) == 6 and sum("done before, skipped" in log for log in logs) == len(before)


def test_two_jobs_are_never_on_one_device(swept: tuple[Path, dict[Path, int]]) -> None:
    runs, _ = swept
    found = attempts(sorted(runs.glob("_sessions/*"))[-1])
    assert len(found) == 6 and {attempt["devices"] for attempt in found} == {"4", "7"}
    together = [pair for pair in combinations(found, 2) if overlap(*pair)]
    assert together and all(one["devices"] != other["devices"] for one, other in together)


def test_ctrl_c_reaches_all_processes_at_once_and_every_job_saves_a_checkpoint(words: Words, tmp_path: Path) -> None:
    training = ["pipeline=orpo", "orpo.max_steps=1000000", "orpo.learning_rate=1e-5", "orpo.save_steps=10000"]
    process = start(*SWEEP[:3], "orpo.beta=0.1,0.2", *words(tmp_path, *training))
    wait_until(lambda: sum(updates(directory) > 0 for directory in stages(tmp_path)) == 2, process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, printed
    assert [len(list(directory.glob("checkpoint-*"))) for directory in stages(tmp_path)] == [1, 1], printed
    assert not running_in(tmp_path)


def test_a_stage_out_of_memory_goes_on_with_half_the_micro_batch_to_the_same_weights(
    swept: tuple[Path, dict[Path, int]], words: Words, tmp_path: Path
) -> None:
    """The kernel refuses it more memory after some updates; one malloc arena, or others would lend theirs."""
    options = words(tmp_path, *TRAINING, "orpo.save_steps=2", "dataset.validation_fraction=0.1")  # as in the sweep
    process = start(*options, MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="4096")
    directory = wait_for_step(tmp_path, 3, process)
    resource.prlimit(trainer_of(directory), resource.RLIMIT_AS, (1, 1))
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed + (directory / "log.txt").read_text()
    assert "out of memory: resuming with micro-batches of 2, 2 per step" in printed
    assert re.findall(r"resuming from checkpoint-\d+", (directory / "log.txt").read_text())
    used = yaml.safe_load((directory / "config.yaml").read_text())["options"]
    assert (used["per_device_train_batch_size"], used["gradient_accumulation_steps"]) == (2, 2)
    assert record(directory)["updates"] == 16 and not list(directory.glob("checkpoint-*"))
    (whole,) = stages(swept[0], directory.name)
    ours, theirs = (load_file(path / "model" / "model.safetensors") for path in (directory, whole))
    assert max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items()) < 1e-5


def test_a_shared_stage_is_tried_once_before_the_jobs_and_fails_for_all_of_them(words: Words, tmp_path: Path) -> None:
    """The same command tries it again, and what a job knows of the others' failures does not grow."""
    sweep = ["-m", "launcher=local", "launcher.at_once=2", "pipeline=dpo", "dpo.beta=0.1,0.2,0.3", "session=s"]
    for _ in range(2):
        printed = launch(*sweep, *words(tmp_path, *short("sft", "dpo"), "sft.learning_rate=1e30"), status=1)
        (sft,) = stages(tmp_path, "sft-*")
        assert not (sft / "record.json").exists() and "error: job 1-sft-0: the loss or its gradient" in printed
        jobs = [json.loads(path.read_text()) for path in tmp_path.glob("_sessions/s/*/job.json")]
        assert [job["errors"] for job in jobs] == [
            [f"{sft} failed before in this session: see its error.txt or log.txt"]
        ] * 3
        assert [(job["failed"], job["avoided"]) for job in jobs] == [([], [str(sft)])] * 3


def test_what_jobs_share_comes_in_rounds(compose: Callable[..., Config]) -> None:
    def rounds(*words: str) -> list[list[list[str]]]:
        jobs = [compose("hardware=cpu", *words, f"{swept}={value}") for value in (0.1, 0.2)]
        return [sorted(stages for job in part for stages in job.pipelines.values()) for part in by_depth(jobs)]

    swept = "orpo.beta"
    assert rounds("pipeline=orpo") == []
    assert rounds("pipeline=all") == [[["sft"]], [["sft", "dpo"], ["sft", "reward"]], [["sft", "reward", "rloo"]]]
    assert rounds("pipeline=all", "budget=pairs") == [[["sft"]], [["sft", "reward"]]]
    swept = "sft.weight_decay"
    assert rounds("pipeline=compare") == [[["orpo"]]]


def test_a_judge_that_jobs_share_is_trained_before_them(compose: Callable[..., Config]) -> None:
    """Otherwise one job would train it while the others wait on their devices."""
    words = ["model=qwen2.5-0.5b", "dataset=file", "dataset.path=x.jsonl", "evaluate=true", "judge=trained"]
    jobs = [compose(*words, "pipeline=orpo", f"orpo.beta={beta}") for beta in (0.1, 0.2)]
    ((judge,),) = by_depth(jobs)
    assert judge.pipelines == {} and judge.judge == "trained" and judge.dataset.judge_fraction == 0.2
    assert by_depth(jobs[:1]) == [] and by_depth([replace(job, seed=place) for place, job in enumerate(jobs)]) == []
    jobs = [compose(*words, "pipeline=dpo", f"dpo.beta={beta}") for beta in (0.1, 0.2)]
    ((sft,),) = by_depth(jobs)  # whose job trains the judge, too
    assert sft.pipelines == {"dpo": ["sft"]} and sft.judge == "trained"


def test_a_shared_stage_trains_on_the_pairs_that_its_jobs_do(compose: Callable[..., Config]) -> None:
    words = ["pipeline=dpo", "eval_split=test", "dpo.load_best_model_at_end=true"]
    jobs = [compose(*words, f"dpo.beta={beta}") for beta in (0.1, 0.2)]
    ((sft,),) = by_depth(jobs)
    assert sft.dataset.validation_fraction == with_folds(jobs[0]).dataset.validation_fraction == 0.1


def test_real_errors_of_allocation_are_told_as_out_of_memory(tmp_path: Path) -> None:
    for allocate in (lambda: torch.empty(2**58), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            allocate()
        assert (in_words(error.value, tmp_path) or "").startswith(OUT_OF_MEMORY)  # type: ignore[arg-type]


def test_micro_batches_are_halved_to_one_pair_and_an_updates_pairs_stay() -> None:
    options = {"engine": "packed", "per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}
    sizes = []
    while options["per_device_train_batch_size"] > 1:
        halve(options)
        sizes.append(options["per_device_train_batch_size"])
        assert options["per_device_train_batch_size"] * options["gradient_accumulation_steps"] == 12
    assert sizes == [3, 1] and splits_alike(options)
    assert not splits_alike(options | {"nll_mean": "micro_batch"}) and not splits_alike(options | {"engine": "stock"})


def test_each_of_many_jobs_borrows_two_of_four_devices_that_nobody_else_has() -> None:
    devices, held, most = Devices(["0", "1", "2", "3"]), set[str](), []

    def borrow() -> None:
        for _ in range(20):
            with devices.lend(2) as lent:
                most.append(len(held))
                assert len({*lent}) == 2 and not held & {*lent}
                held.update(lent)
                time.sleep(0.001)
                held.difference_update(lent)

    threads = [threading.Thread(target=borrow) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 100 and max(most) == 2 and sorted(devices.free) == ["0", "1", "2", "3"]


def test_what_cannot_run_is_refused_before_any_job(compose: Callable[..., Config]) -> None:
    local = ["launcher=local", "hardware=cpu", "batch_size=64"]
    with pytest.raises(UserError, match="2 processes, and launcher=local 1 devices: 0"):
        needed(compose(*local, "hardware.processes=2", "launcher.devices=[0]"), ["0"])
    with pytest.raises(UserError, match="apply to the whole sweep"):
        device_names([compose(*local, f"launcher.at_once={count}") for count in (1, 2)])
    for word in (
        "launcher.devices=[0,0]",
        "launcher.devices=[]",
        "launcher.devices=['0,1',1]",
        "launcher.devices=['00',0]",
        "launcher.at_once=0",
    ):
        with pytest.raises(UserError, match="launcher"):
            refuse_useless(compose(*local, word))


@pytest.mark.slow
def test_jobs_of_two_processes_have_two_devices_each(words: Words, tmp_path: Path) -> None:
    sweep = ["launcher=local", "launcher.devices=[0,1,2,3]", "orpo.beta=0.1,0.2,0.3,0.4"]
    launch("-m", *words(tmp_path, *TRAINING, *sweep, "hardware.processes=2", "hardware.per_device_batch=2"))
    found = attempts(next(tmp_path.glob("_sessions/*")))
    assert len(found) == 4 and {attempt["devices"] for attempt in found} == {"0,1", "2,3"}
    for one, other in combinations(found, 2):
        assert not overlap(one, other) or one["devices"] != other["devices"]


@pytest.mark.parametrize(
    "said",
    (
        *("memory allocation of 1048576 bytes failed\n", "  what():  std::bad_alloc\n", "\nMemoryError\n"),
        "\nOSError: [Errno 12] Cannot allocate memory\n",
    ),
)
def test_a_library_that_ends_the_process_for_want_of_memory_is_understood(said: str, tmp_path: Path) -> None:
    """Rust's, as of safetensors while a checkpoint is written, and C++'s leave no Python error; Python's only a log."""
    (tmp_path / "log.txt").write_text(f"ValueError: of an attempt before\nWriting model shards: 0%{said}")
    assert isinstance(failure(-6, tmp_path, "orpo", 0), OutOfMemory)
    (tmp_path / "log.txt").write_text("Aborted\n")
    assert isinstance(failure(-6, tmp_path, "orpo", 0), StageFailed)
