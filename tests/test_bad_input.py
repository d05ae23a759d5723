"""What a user can get wrong is one line, exit status 2, and nothing trained or overwritten."""

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from door import (
    PATIENCE,
    kill,
    launch,
    short,
    small_disk,
    stages,
    start_warm,
    stopped,
    trainer_of,
    wait_for_step,
    wandb_records,
)
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from launch.config.schema import Config
from launch.named.files import count_parameters
from launch.stages import inputs, run
from launch.stages.base_model import find_base
from launch.stages.digest import Start
from launch.stages.inputs import check_room
from recipes.config import UserError, read_json_rows, write_json
from recipes.system.files import SEAL, flaw
from recipes.training.checkpoints import checkpoints, step

Words = Callable[..., list[str]]


def test_a_failed_job_does_not_hide_the_others(words: Words, tmp_path: Path) -> None:
    printed = launch("-m", *words(tmp_path, "pipeline=orpo", *short("orpo"), "seed=0,1", "batch_size=4,6"), status=2)
    assert len(stages(tmp_path)) == 2
    assert printed.count("batch_size=6 is no multiple of 4") >= 2 and "job 0: done" in printed


def test_a_non_finite_loss_stops_the_run_names_its_rows_and_closes_the_tracker(words: Words, tmp_path: Path) -> None:
    options = ["pipeline=orpo", "orpo.max_steps=9", "orpo.learning_rate=1e30", "orpo.report_to=wandb"]
    printed = launch(*words(tmp_path, *options), status=2, WANDB_MODE="offline")
    assert "not finite at optimizer step" in printed
    (directory,) = stages(tmp_path)
    assert not (directory / "model").exists() and not (directory / "record.json").exists()
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    assert [found.exit.exit_code for found in wandb_records(file) if found.HasField("exit")] == [2]


def test_a_stage_of_another_version_is_left_alone(words: Words, tmp_path: Path) -> None:
    options = words(tmp_path, "pipeline=orpo", *short("orpo", steps=2))
    launch(*options)
    config = stages(tmp_path)[0] / "config.yaml"
    config.write_text(config.read_text().replace("format: 1", "format: 0"))
    assert "was made by another version" in launch(*options, status=2)


BAD = {
    "model=phi3-mini": "did you mean phi-3-mini?",
    "dataset=ultrafedback": "did you mean ultrafeedback?",
    "orpo.lerning_rate=1": "orpo.lerning_rate: no such option",
    "orpo.learning_rate=fast": "error: orpo.learning_rate=fast must be a number",
    "orpo.beta=0.1,0.2,0.1": "orpo.beta=0.1,0.2,0.1: 0.1 is given twice",
    "orpo.beta=-1": "orpo.beta must be a number, 0 or more (got -1.0)",
    "orpo.weight_decay=nan": "orpo.weight_decay must be a number, 0 or more (got nan)",
    "orpo.betta=1": "did you mean orpo.beta?",
    "report_to=wandb": "or orpo.report_to?",
    "orpo.max_prompt_length=4": "set dataset.max_length instead",
    "orpo.lr_scheduler_type=warmup_stable_decay": "num_decay_steps",
    "+orpo.bta=1": "+orpo.bta: no such option",
    "dpo.beta=0.2": "would do nothing",
    "batch_size=5": "error: batch_size=5 is no multiple of 4",
    "dataset.train_rows=-5": "dataset.train_rows must be at least 2 (got -5)",
    "orpo.num_train_epochs=0 orpo.max_steps=-1": "leave nothing to train",
    "orpo.auto_find_batch_size=true": "is not supported",
    "orpo.train_sampling_strategy=group_by_length": "needs a length of each row",
    "runs=/proc/none": "/proc/none",
    "runs=README.md": "README.md; name a directory to train in",
    "orpo.lr_scheduler_type=nonsense": "nonsense",
    "+pipelines.mine=[sft,ppo]": "give a list of one or more of sft, dpo, orpo",
    "pipelines.orpo=[]": "give a list of one or more of sft, dpo, orpo",
    "eval_prompts=1": "eval_prompts must be at least 2",
    "policy=null": "name a profile, or leave this option out",
    "dataset.policies.undecided=keep": "dataset.policies.undecided=keep: use drop, refuse",
    "seed=-1": "seed must be between 0",
    "dataset.path=/no/such.jsonl": "/no/such.jsonl does not exist",
    "model.model_name_or_path=./no/such/model": "does not exist: check model.model_name_or_path",
    "model.model_name_or_path=somebody/some-model": "is not in the local cache",
    "model.chat_template=nonsense": "is neither a file nor one of",
    "model.stop_tokens=['<|nothing|>']": "is not a token of",
}


@pytest.mark.parametrize("word", BAD)
def test_bad_input_is_one_line_and_nothing_is_trained(words: Words, tmp_path: Path, word: str) -> None:
    printed = launch(*words(tmp_path, "pipeline=orpo", *short("orpo"), *word.split()), status=2)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and BAD[word] in errors[0], printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("**/log.txt"))


def test_a_check_refuses_a_number_of_trials_as_a_launch_does() -> None:
    assert "error: tune=0: give one number" in launch("--check", "tune=0", status=2)


def test_a_full_disk_is_told_before_anything_trains(words: Words, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", megabytes=2) as runs:
        printed = launch(*words(runs, "pipeline=orpo", *short("orpo")), status=2)
        assert not list(runs.glob("**/log.txt"))
    assert "no space left" in printed and "Traceback" not in printed


def fill(disk: Path, directory: Path, leave: int) -> None:
    """Fill a disk but for a few bytes while the training in `directory` is halted, and writes no checkpoint."""
    trainer = trainer_of(directory)
    while True:
        with stopped(trainer):
            if all((path / SEAL).exists() for path in checkpoints(directory)):
                with (disk / "filler").open("wb") as filler:
                    os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(disk).free - leave)
                return
        time.sleep(0.01)


def test_a_checkpoint_that_would_not_fit_stops_the_run_and_leaves_the_last_one_whole(
    words: Words, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", megabytes=64) as runs:
        options = ["pipeline=orpo", "orpo.max_steps=1000000", "orpo.save_steps=5", "orpo.learning_rate=1e-5"]
        process = start_warm(*words(runs, *options))
        directory = wait_for_step(runs, 10, process)
        fill(runs, directory, leave=2**18)
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode and "no space left for a checkpoint" in printed and "Traceback" not in printed
        last = max((path for path in checkpoints(directory) if (path / SEAL).exists()), key=step)
        assert flaw(last) is None
        (runs / "filler").unlink()
        process = start_warm(*words(runs, *options))
        wait_for_step(runs, step(last) + 10, process)
        kill(trainer_of(directory))
        process.communicate(timeout=PATIENCE)
        assert f"resuming from {last.name}" in (directory / "log.txt").read_text()


def test_room_is_asked_for_what_is_left_to_train(
    compose: Callable[..., Config], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(inputs.shutil, "disk_usage", lambda path: full)
    config, start = compose(f"runs={tmp_path}"), Start(str(tiny_model), None, "")
    check_room(config, start, 0)
    with pytest.raises(UserError, match="no space left: to train 1 stage,"):
        check_room(config, start, 1)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_is_one_line_before_anything_is_trained(
    words: Words, tiny_model: Path, tmp_path: Path, file: str
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    whole = (damaged / file).read_bytes()
    (damaged / file).write_bytes(whole[: len(whole) // 2])
    options = words(tmp_path, "pipeline=orpo", *short("orpo"), f"model.model_name_or_path={damaged}")
    printed = launch(*options, status=2)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(damaged) in errors[0] and "Traceback" not in printed, printed
    assert not list(tmp_path.glob("**/log.txt"))


def test_weights_that_only_loading_finds_damaged_are_one_line(words: Words, tiny_model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    (damaged / "model.safetensors").unlink()
    (damaged / "pytorch_model.bin").write_bytes(b"no weights")
    options = words(tmp_path, "pipeline=orpo", *short("orpo"), f"model.model_name_or_path={damaged}")
    printed = launch(*options, status=2)
    assert f"error: {damaged} has no model that can be loaded" in printed and "Traceback" not in printed


def odd_models(tiny_model: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Directories that Transformers loads without an error as a language model, or only when a stage's turn comes."""
    for name in ("classifier", "unnamed", "masked", "shards", "quantized", "vocabulary"):
        shutil.copytree(tiny_model, folder / name)
    config = json.loads((tiny_model / "config.json").read_text())
    for name in ("classifier", "unnamed"):
        AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(folder / name)
    yield "classifier", "is a LlamaForSequenceClassification, not a causal language model"
    write_json(folder / "unnamed" / "config.json", config | {"architectures": None})
    yield "unnamed", "has no lm_head.weight, which its config.json asks for"
    write_json(folder / "masked" / "config.json", config | {"architectures": ["BertForMaskedLM"]})
    yield "masked", "is a BertForMaskedLM, not a causal language model"
    (folder / "shards" / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(folder / "shards", max_shard_size="200KB")
    next((folder / "shards").glob("model-00002-*")).unlink()
    yield "shards", "has no model that can be loaded"
    write_json(folder / "quantized" / "config.json", config | {"quantization_config": {"quant_method": "gptq"}})
    yield "quantized", "has weights quantized by gptq, which tuning=full cannot train"
    write_json(folder / "vocabulary" / "config.json", config | {"vocab_size": config["vocab_size"] + 8})
    yield "vocabulary", "has another shape of lm_head.weight, …, which its config.json asks for"


def test_what_is_no_whole_language_model_is_refused_before_anything_trains(
    compose: Callable[..., Config], tiny_model: Path, tmp_path: Path
) -> None:
    for name, said in odd_models(tiny_model, tmp_path):
        with pytest.raises(UserError, match=f"{tmp_path / name} {said}"):
            find_base(compose("model=qwen2.5-0.5b", f"model.model_name_or_path={tmp_path / name}"))
    assert find_base(compose("model=qwen2.5-0.5b", f"model.model_name_or_path={tiny_model}")).path == str(tiny_model)


def test_a_second_copy_of_the_weights_does_not_count(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(tiny_model / "model.safetensors", tmp_path / "model" / "consolidated.safetensors")
    assert count_parameters(str(tmp_path / "model")) == count_parameters(str(tiny_model))


def test_any_path_is_shown_verbatim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "{task} [red]a[/b]"
    directory.mkdir(parents=True)
    monkeypatch.setattr(run.console, "width", 300)
    run.run(["true"], directory, "orpo", dict(os.environ), False)
    assert f" orpo  {directory}  started" in capsys.readouterr().err


def test_a_users_rows_may_begin_as_windows_writes_them_and_are_whole(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Why?"}\r\n{"prompt": "a\u2028b"}\r\n', encoding="utf-8-sig")
    assert read_json_rows(tmp_path / "rows.jsonl") == [{"prompt": "Why?"}, {"prompt": "a\u2028b"}]
    packed = bytearray(gzip.compress(b'{"prompt": "Why?"}\n' * 99))
    packed[12:20] = b"\xff" * 8
    (tmp_path / "rows.jsonl.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"rows\.jsonl\.gz cannot be read"):
        read_json_rows(tmp_path / "rows.jsonl.gz")
