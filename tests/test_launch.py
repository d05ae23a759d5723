"""Through the user's door: every recipe, every tuning, skipping, sharing and tracking, by `python -m launch`."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from door import launch, losses, record, run, short, stages, wandb_records
from safetensors.torch import load_file
from samples import OURS, REAL, real
from transformers import AutoModelForCausalLM

Words = Callable[..., list[str]]
LN2 = 0.6931471805599453
COMPARED = ["pipeline=compare", "eval_prompts=4", "judge=none", *short("sft", "dpo", "orpo"), "orpo.beta=0.1,0.2,0.5"]
COMPARED += ["sft.save_total_limit=null"]
PLAIN = ["optim=sgd", "learning_rate=0.1", "warmup_steps=0"]  # so that weights differ as gradients do


def plain(*names: str) -> list[str]:
    return [f"{stage}.{option}" for stage in names for option in PLAIN]


@pytest.fixture(scope="module")
def compared(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison, swept over three lambdas."""
    runs = tmp_path_factory.mktemp("compared")
    launch("-m", *words(runs, *COMPARED))
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
        assert min(found["tokens"], found["computed_tokens"]) > 0
        assert (found["computed_tokens"] < found["tokens"]) == (found["stage"] != "sft"), "pairs share their prompts"
        assert 0 < found["device_seconds"] < 600 and found["peak_memory_bytes"] > 0 and found["flops"] > 0
        assert found["versions"]["trl"] and found["data_fingerprint"] and found["digest"] in directory.name
        kept = {1, 2, 3} if found["stage"] == "sft" else set()
        assert {int(path.name.split("-")[1]) for path in directory.glob("checkpoint-*")} == kept
        assert len(losses(directory)) >= 1


def test_forward_passes_are_the_papers(compared: Path) -> None:
    for stage, passes in (("sft", 1), ("dpo", 4), ("orpo", 2)):
        found = record(stages(compared, f"{stage}-*")[0])
        assert found["forward_passes_per_pair"] == pytest.approx(passes * found["epochs"])


def test_dpo_starts_at_its_reference(compared: Path) -> None:
    assert record(stages(compared, "dpo-*")[0])["first_loss"] == pytest.approx(LN2, abs=1e-5)


def test_the_table_has_every_pipeline_and_setting(compared: Path) -> None:
    (session,) = (compared / "_sessions").iterdir()
    table = (session / "table.md").read_text()
    for name in ("base model", "SFT → DPO", "ORPO orpo.beta=0.5", "Win rates: none, as no judge was asked."):
        assert name in table
    assert "gold" not in table and "win rate against" not in table  # a user's own file has no gold reward


def test_the_table_says_how_far_training_moved_and_what_it_forgot(compared: Path) -> None:
    (path,) = compared.glob("_sessions/*/table.json")
    base, *trained = [row["values"] | row for row in json.loads(path.read_text())["rows"]]
    assert base["kl"] is base["forgetting"] is None
    assert [row["pipeline"] for row in trained if row["preference_accuracy_implicit"]] == ["dpo"] * 3, "a reference"
    for row in trained:
        assert row["forgetting"]["mean"] == pytest.approx(row["text_loss"]["mean"] - base["text_loss"]["mean"])


def test_a_measurement_that_lacks_what_the_table_needs_is_made_again(compared: Path) -> None:
    """As one by older code may: it is named and counts as not evaluated; `python -m eval` measures that model alone."""
    (session,) = (compared / "_sessions").iterdir()
    table = (session / "table.md").read_text()
    (path,) = stages(compared, "orpo-*")[0].glob("eval/????????.json")
    whole = json.loads(path.read_text())
    for answer in (lacking := json.loads(path.read_text()))["sampled"]:
        del answer["tokens"]
    for damaged in (lacking, {key: value for key, value in whole.items() if key != "rejected"}):
        path.write_text(json.dumps(damaged))
        before = {file: file.stat().st_mtime_ns for file in compared.glob("[!_]*/**/eval/*.json")}
        printed = run([sys.executable, "-m", "eval.table", str(session)])
        assert printed.count("not evaluated yet") == 1
        printed = run([sys.executable, "-m", "eval", str(session)])
        assert printed.count("measured again: ") == 1 and str(path) in printed
        assert {file for file, changed in before.items() if file.stat().st_mtime_ns != changed} == {path}
        assert json.loads(path.read_text()) == whole and (session / "table.md").read_text() == table


def test_a_second_run_trains_nothing(compared: Path, words: Words) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.glob("[!_]*/**/*") if path.is_file()}
    printed = launch("-m", *words(compared, *COMPARED))
    assert printed.count("done before, skipped") == 9
    after = {path: path.stat().st_mtime_ns for path in compared.glob("[!_]*/**/*") if path.is_file()}
    assert {path: time for path, time in after.items() if path.name != ".claim"} == {
        path: time for path, time in before.items() if path.name != ".claim"
    }


def test_orpos_update_is_the_same_in_micro_batches_of_any_size(words: Words, tmp_path: Path) -> None:
    found = []
    for size in (8, 1):
        runs, split = tmp_path / str(size), f"hardware.per_device_batch={size}"
        launch(*words(runs, "pipeline=orpo", "batch_size=8", *short("orpo"), *plain("orpo"), split))
        found.append(load_file(stages(runs, "orpo-*")[0] / "model" / "model.safetensors"))
    for name, weight in found[0].items():
        assert (weight - found[1][name]).abs().max() < 1e-6, name


@pytest.mark.parametrize("tuning, pipeline", [("lora", "dpo"), ("qlora", "orpo")])
def test_adapters_are_merged_into_plain_models(words: Words, tmp_path: Path, tuning: str, pipeline: str) -> None:
    names = ["sft", "dpo"] if pipeline == "dpo" else ["orpo"]
    launch(*words(tmp_path, f"pipeline={pipeline}", f"tuning={tuning}", *short(*names)))
    assert len(stages(tmp_path)) == len(names)
    for directory in stages(tmp_path):
        assert (directory / "adapter" / "adapter_model.safetensors").exists()
        assert not list((directory / "model").glob("adapter*"))
        AutoModelForCausalLM.from_pretrained(directory / "model")
    for directory in stages(tmp_path, "dpo-*"):
        assert record(directory)["first_loss"] == pytest.approx(LN2, abs=1e-3), "its reference is the merged SFT model"


def test_wandb_offline_has_one_closed_run_a_stage_in_one_group(words: Words, tmp_path: Path) -> None:
    options = words(tmp_path, "pipeline=dpo", *short("sft", "dpo"), "tracker=wandb")
    printed = launch(*options, WANDB_MODE="offline")
    groups = set()
    for directory in stages(tmp_path):
        assert f"W&B: project orpo, files in {directory}/wandb" in printed
        (file,) = directory.glob("wandb/offline-run-*/*.wandb")
        records = wandb_records(file)
        run = next(found.run for found in records if found.HasField("run"))
        groups.add(run.run_group)
        assert run.display_name == directory.name
        assert [found.exit.exit_code for found in records if found.HasField("exit")] == [0]
    assert len(groups) == 1 and groups != {""}


def test_an_unreachable_tracker_stops_no_training(words: Words, tmp_path: Path) -> None:
    address = "http://127.0.0.1:9"  # the discard port: nothing listens
    options = words(tmp_path, "pipeline=orpo", *short("orpo"), "orpo.report_to=wandb")
    printed = launch(*options, WANDB_MODE="online", WANDB_BASE_URL=address, WANDB_API_KEY="0" * 40)
    assert f"W&B at {address} cannot be reached: logging offline" in printed
    (directory,) = stages(tmp_path)
    assert len(losses(directory)) >= 1
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    assert [found.exit.exit_code for found in wandb_records(file) if found.HasField("exit")] == [0]


def test_cfg_shows_the_resolved_configuration(words: Words, tmp_path: Path) -> None:
    shown = yaml.safe_load(launch("--cfg", "job", *words(tmp_path, "pipeline=orpo", "batch_size=8")))
    assert shown["orpo"]["gradient_accumulation_steps"] == 2
    assert shown["orpo"]["seed"] == 0 and shown["pipelines"] == {"orpo": ["orpo"]}


@pytest.mark.parametrize("source", ["ours", pytest.param("real", marks=real("hh-rlhf"))])
def test_dialogues_as_one_text_and_a_tokenizer_of_phi_3s_form(source: str, tmp_path: Path) -> None:
    import torch
    from kinds import phi_3
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    tokenizer = phi_3(source)
    size = 32064 if source == "real" else len(tokenizer)  # the real embeddings are larger than the vocabulary
    ids: dict[str, Any] = {"vocab_size": size, "bos_token_id": 1}
    ids |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    Phi3ForCausalLM(Phi3Config(**shape, num_key_value_heads=4, **ids)).save_pretrained(tmp_path / "phi")
    tokenizer.save_pretrained(tmp_path / "phi")
    pairs = REAL / "hh-rlhf" / "harmless-base-sample.jsonl.gz" if source == "real" else tmp_path / "pairs.jsonl.gz"
    if source == "ours":
        pairs.write_bytes(gzip.compress((OURS / "hh-rlhf" / "sample.jsonl").read_bytes()))
    options = [
        *(
            f"runs={tmp_path / 'runs'}",
            "model=phi-3-mini",
            f"model.model_name_or_path={tmp_path / 'phi'}",
            "hardware=cpu",
        ),
        *(
            "dataset=file",
            f"dataset.path={pairs}",
            "dataset.max_length=512",
        ),
        *("batch_size=4", "hardware.per_device_batch=4"),
    ]
    steps = ["max_steps=12", "learning_rate=3e-3", "logging_steps=1"]
    launch(*options, "pipeline=orpo", *(f"orpo.{step}" for step in steps))
    found = losses(stages(tmp_path / "runs", "orpo-*")[0])
    assert len(found) == 12 and sum(found[-4:]) < sum(found[:4])
    launch(*options, "pipeline=dpo", "sft.max_steps=2", "dpo.max_steps=2")
    (dpo,) = stages(tmp_path / "runs", "dpo-*")
    assert record(dpo)["first_loss"] == pytest.approx(LN2, abs=1e-4), "log-probs of 2,000 have four digits in float32"
