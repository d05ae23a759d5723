"""Through the user's door: every recipe, skip, resume, sweep and failure by `python -m launch`."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from door import (
    ROOT,
    kill,
    launch,
    losses,
    record,
    stages,
    start,
    trainer_of,
    wait_for_step,
    wandb_records,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

Words = Callable[..., list[str]]
LN2 = 0.6931471805599453


@pytest.fixture(scope="module")
def words(tiny_model: Path, pairs_file: Path) -> Words:
    """The options of a short training of the tiny model; the given ones are added."""

    def make(runs: Path, *more: str) -> list[str]:
        return [
            *(f"runs={runs}", "hardware=cpu", "hardware.per_device_batch=4", "batch_size=4", "model=qwen2.5-0.5b"),
            *(
                f"model.model_name_or_path={tiny_model}",
                "model.stop_tokens=['<|im_end|>']",
                "model.pad_token='<|pad|>'",
            ),
            *("dataset=file", f"dataset.path={pairs_file}", "dataset.test_fraction=0.2", "dataset.max_new_tokens=8"),
            *more,
        ]

    return make


def short(*names: str, steps: int = 3) -> list[str]:
    """The options that train these stages for a few updates."""
    return [f"{stage}.{option}" for stage in names for option in (f"max_steps={steps}", "learning_rate=1e-3")]


@pytest.fixture(scope="module")
def compared(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison, swept over three lambdas."""
    runs = tmp_path_factory.mktemp("compared")
    launch(
        "-m", *words(runs, "pipeline=compare", "eval_prompts=4", *short("sft", "dpo", "orpo"), "orpo.beta=0.1,0.2,0.5")
    )
    return runs


def test_a_sweep_over_lambda_trains_each_stage_once(compared: Path) -> None:
    assert [path.name.split("-")[0] for path in stages(compared)] == ["dpo", "orpo", "orpo", "orpo", "sft"]
    betas = {
        yaml.safe_load((path / "config.yaml").read_text())["options"]["beta"] for path in stages(compared, "orpo-*")
    }
    assert betas == {0.1, 0.2, 0.5}


def test_every_stage_leaves_a_model_and_a_whole_record(compared: Path) -> None:
    for directory in stages(compared):
        AutoModelForCausalLM.from_pretrained(directory / "model")
        found = record(directory)
        assert found["updates"] == 3 and found["pairs"] == 12 and found["processes"] == 1
        assert 0 < found["tokens"] <= found["computed_tokens"]
        assert 0 < found["device_seconds"] < 600 and found["peak_memory_bytes"] > 0 and found["flops"] > 0
        assert found["versions"]["trl"] and found["data_fingerprint"] and found["digest"] in directory.name
        assert not list(directory.glob("checkpoint-*"))
        assert len(losses(directory)) >= 1


def test_forward_passes_are_the_papers(compared: Path) -> None:
    for stage, passes in (("sft", 1), ("dpo", 4), ("orpo", 2)):
        found = record(stages(compared, f"{stage}-*")[0])
        assert found["forward_passes_per_pair"] == pytest.approx(passes * found["epochs"])


def test_dpo_starts_at_its_reference(compared: Path) -> None:
    assert record(stages(compared, "dpo-*")[0])["first_loss"] == pytest.approx(LN2, abs=1e-6)


def test_the_table_has_every_pipeline_and_setting(compared: Path) -> None:
    (session,) = (compared / "_sessions").iterdir()
    table = (session / "table.md").read_text()
    for name in ("base model", "SFT → DPO", "ORPO orpo.beta=0.5", "win rate against SFT"):
        assert name in table
    assert "gold" not in table  # a user's own file has no gold reward


def test_a_second_run_trains_nothing(compared: Path, words: Words) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.glob("[!_]*/**/*") if path.is_file()}
    printed = launch(
        "-m",
        *words(compared, "pipeline=compare", "eval_prompts=4", *short("sft", "dpo", "orpo"), "orpo.beta=0.1,0.2,0.5"),
    )
    assert printed.count("done before, skipped") == 12
    after = {path: path.stat().st_mtime_ns for path in compared.glob("[!_]*/**/*") if path.is_file()}
    assert {path: time for path, time in after.items() if path.name != ".claim"} == {
        path: time for path, time in before.items() if path.name != ".claim"
    }


def weights(directory: Path) -> bytes:
    return (directory / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], bytes]:
    """Options of an ORPO stage with checkpoints, and its weights when nothing happens to it."""
    runs = tmp_path_factory.mktemp("undisturbed")
    options = ["pipeline=orpo", "orpo.max_steps=60", "orpo.save_steps=5", "orpo.learning_rate=1e-3"]
    launch(*words(runs, *options))
    return options, weights(stages(runs)[0])


@pytest.mark.parametrize("victim", ["trainer", "launcher", "both"])
def test_a_killed_stage_resumes_bit_for_bit(
    words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path, victim: str
) -> None:
    options, expected = undisturbed
    process = start(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 12, process)
    trainer = trainer_of(directory)
    if victim in ("launcher", "both"):
        kill(process.pid)
    if victim in ("trainer", "both"):
        kill(trainer)
    process.wait(30)
    assert not (directory / "model").exists()
    launch(*words(tmp_path, *options))
    assert "resuming from checkpoint-" in (directory / "log.txt").read_text()
    assert weights(directory) == expected
    steps = [entry for entry in losses(directory)]
    assert len(steps) == 1 + 60 // 10  # the first update and every tenth, none twice


def test_a_half_written_checkpoint_is_passed_over(
    words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path
) -> None:
    options, expected = undisturbed
    process = start(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 17, process)
    kill(trainer_of(directory))
    process.wait(30)
    newest = max(directory.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (newest / "trainer_state.json").write_text('{"epoch": 0.')
    launch(*words(tmp_path, *options))
    assert f"passing over {newest.name}" in (directory / "log.txt").read_text()
    assert weights(directory) == expected


def test_ctrl_c_leaves_a_resumable_stage(words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path) -> None:
    options, expected = undisturbed
    process = start(*words(tmp_path, *options))
    directory = wait_for_step(tmp_path, 12, process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in printed and "Traceback" not in printed
    launch(*words(tmp_path, *options))
    assert weights(directory) == expected


def test_two_launches_at_once_train_once(words: Words, undisturbed: tuple[list[str], bytes], tmp_path: Path) -> None:
    options, expected = undisturbed
    both = [start(*words(tmp_path, *options)) for _ in range(2)]
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    (directory,) = stages(tmp_path)
    assert (directory / "log.txt").read_text().count("train_runtime") == 1
    assert any("waiting" in text or "done before" in text for text in printed)
    assert weights(directory) == expected


def test_two_processes_give_the_weights_of_one(words: Words, tmp_path: Path) -> None:
    options = ["pipeline=dpo", "batch_size=8", *short("sft", "dpo"), "sft.weight_decay=0", "dpo.weight_decay=0"]
    one, two = tmp_path / "one", tmp_path / "two"
    launch(*words(one, *options))
    launch(*words(two, *options, "hardware.processes=2"))
    for stage in ("sft", "dpo"):
        (first,), (second,) = stages(one, f"{stage}-*"), stages(two, f"{stage}-*")
        assert record(second)["processes"] == 2 and record(second)["pairs"] == record(first)["pairs"]
        ours, theirs = (load_file(path / "model" / "model.safetensors") for path in (first, second))
        for name, weight in ours.items():
            assert (weight - theirs[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapters_are_merged_and_dpo_starts_from_the_merged_model(words: Words, tmp_path: Path, tuning: str) -> None:
    launch(*words(tmp_path, "pipeline=dpo", f"tuning={tuning}", *short("sft", "dpo")))
    for directory in stages(tmp_path):
        assert (directory / "adapter" / "adapter_model.safetensors").exists()
        assert not list((directory / "model").glob("adapter*"))
        AutoModelForCausalLM.from_pretrained(directory / "model")
    assert record(stages(tmp_path, "dpo-*")[0])["first_loss"] == pytest.approx(LN2, abs=1e-3)


def test_a_failed_job_does_not_hide_the_others(words: Words, tmp_path: Path) -> None:
    printed = launch("-m", *words(tmp_path, "pipeline=orpo", *short("orpo"), "seed=0,1", "batch_size=4,6"), status=2)
    assert len(stages(tmp_path)) == 2
    assert printed.count("batch_size=6 is no multiple of 4") >= 2 and "job 0: done" in printed


def test_a_non_finite_loss_stops_the_run_and_names_its_rows(words: Words, tmp_path: Path) -> None:
    printed = launch(*words(tmp_path, "pipeline=orpo", "orpo.max_steps=9", "orpo.learning_rate=1e30"), status=2)
    assert "not finite, in train rows" in printed
    assert not (stages(tmp_path)[0] / "model").exists() and not (stages(tmp_path)[0] / "record.json").exists()


def test_a_stage_of_another_version_is_left_alone(words: Words, tmp_path: Path) -> None:
    options = words(tmp_path, "pipeline=orpo", *short("orpo", steps=2))
    launch(*options)
    config = stages(tmp_path)[0] / "config.yaml"
    config.write_text(config.read_text().replace("format: 1", "format: 0"))
    assert "was made by another version" in launch(*options, status=2)


def test_wandb_offline_has_one_closed_run_a_stage_in_one_group(words: Words, tmp_path: Path) -> None:
    tracked = ["sft.report_to=wandb", "dpo.report_to=wandb"]
    launch(*words(tmp_path, "pipeline=dpo", *short("sft", "dpo"), *tracked), WANDB_MODE="offline")
    groups = set()
    for directory in stages(tmp_path):
        (file,) = directory.glob("wandb/offline-run-*/*.wandb")
        records = wandb_records(file)
        run = next(found.run for found in records if found.HasField("run"))
        groups.add(run.run_group)
        assert run.display_name == directory.name
        assert [found.exit.exit_code for found in records if found.HasField("exit")] == [0]
    assert len(groups) == 1 and groups != {""}


def test_a_failed_stage_closes_its_wandb_run(words: Words, tmp_path: Path) -> None:
    options = ["pipeline=orpo", "orpo.max_steps=9", "orpo.learning_rate=1e30", "orpo.report_to=wandb"]
    launch(*words(tmp_path, *options), status=2, WANDB_MODE="offline")
    (file,) = stages(tmp_path)[0].glob("wandb/offline-run-*/*.wandb")
    assert [found.exit.exit_code for found in wandb_records(file) if found.HasField("exit")] == [2]


BAD = {
    "model=phi3-mini": "did you mean phi-3-mini?",
    "dataset=ultrafedback": "did you mean ultrafeedback?",
    "orpo.lerning_rate=1": "orpo.lerning_rate: there is no such option",
    "orpo.learning_rate=fast": "could not be converted to Float",
    "+orpo.bta=1": "+orpo.bta: there is no such option",
    "dpo.beta=0.2": "would do nothing",
    "batch_size=5": "no multiple of 4",
    "orpo.lr_scheduler_type=nonsense": "nonsense",
    "dataset.path=/no/such.jsonl": "/no/such.jsonl does not exist",
    "model.model_name_or_path=./no/such/model": "does not exist: check model.model_name_or_path",
    "model.model_name_or_path=somebody/some-model": "is not in the local cache",
    "model.chat_template=nonsense": "is neither a file nor one of",
    "model.stop_tokens=['<|nothing|>']": "is no token of",
}


@pytest.mark.parametrize("word", BAD)
def test_bad_input_is_one_line_and_nothing_is_trained(words: Words, tmp_path: Path, word: str) -> None:
    printed = launch(*words(tmp_path, "pipeline=orpo", *short("orpo"), word), status=2)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and BAD[word] in errors[0], printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("**/log.txt"))


def test_a_full_disk_is_told_before_anything_trains(words: Words, tmp_path: Path) -> None:
    runs = tmp_path / "small"
    runs.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", runs], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        printed = launch(*words(runs, "pipeline=orpo", *short("orpo")), status=2)
    finally:
        subprocess.run(["umount", runs], check=True)
    assert "no space left" in printed and "Traceback" not in printed


def test_cfg_shows_the_resolved_configuration(words: Words, tmp_path: Path) -> None:
    shown = yaml.safe_load(launch("--cfg", "job", *words(tmp_path, "pipeline=orpo", "batch_size=8")))
    assert shown["orpo"]["gradient_accumulation_steps"] == 2
    assert shown["orpo"]["seed"] == 0 and shown["pipelines"] == {"orpo": ["orpo"]}


def test_real_pairs_and_the_real_phi_3_tokenizer(tmp_path: Path) -> None:
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the real HH-RLHF pairs and Phi-3 tokenizer are not on this machine")
    import torch
    from transformers import AutoTokenizer, Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    ids: dict[str, Any] = {"vocab_size": 32064, "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000}
    Phi3ForCausalLM(Phi3Config(**shape, num_key_value_heads=4, **ids)).save_pretrained(tmp_path / "phi")
    AutoTokenizer.from_pretrained(data / "phi-3-tokenizer").save_pretrained(tmp_path / "phi")
    options = [
        *(
            f"runs={tmp_path / 'runs'}",
            "model=phi-3-mini",
            f"model.model_name_or_path={tmp_path / 'phi'}",
            "hardware=cpu",
        ),
        *(
            "dataset=file",
            f"dataset.path={data / 'hh-rlhf' / 'harmless-base-sample.jsonl.gz'}",
            "dataset.max_length=512",
        ),
        *("batch_size=4", "hardware.per_device_batch=4"),
    ]
    steps = ["max_steps=12", "learning_rate=3e-3", "logging_steps=1"]
    launch(*options, "pipeline=orpo", *(f"orpo.{step}" for step in steps))
    found = losses(stages(tmp_path / "runs", "orpo-*")[0])
    assert len(found) == 12 and sum(found[-4:]) < sum(found[:4])
    launch(*options, "pipeline=dpo", "sft.max_steps=2", "dpo.max_steps=2")
    assert record(stages(tmp_path / "runs", "dpo-*")[0])["first_loss"] == pytest.approx(LN2, abs=1e-6)
