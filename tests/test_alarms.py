"""Failures that say nothing by themselves: each provoked, and told in one line. Two more in test_compatibility.py."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cells import train
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from launch.config.compatibility import Cell
from recipes.config import Stage, UserError, read_json, write_json
from recipes.orpo import TRAINERS as ORPO_ENGINES
from recipes.system.files import seal
from recipes.training.checks import check_machine, check_saved, watch_outputs
from recipes.training.merge import merge
from recipes.training.model import check_loadable

Make = Callable[..., Path]
PLAIN = Cell("orpo", "full", "one", False, "fp32", "packed")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The ORPO trainers that recipes make."""
    made: list[Any] = []
    kind = ORPO_ENGINES["packed"]

    def note(*args: Any, **options: Any) -> Any:
        made.append(kind(*args, **options))
        return made[-1]

    monkeypatch.setitem(ORPO_ENGINES, "packed", note)
    return made


def test_another_machine_than_the_profiles_is_refused(make: Make, trainers: list[Any]) -> None:
    directory = make(replace(PLAIN, strategy="ddp"))
    with pytest.raises(UserError, match="1 processes train, but the hardware profile has 2"):
        train(directory)
    stage = replace(Stage.load(directory), processes=1)
    check_machine(trainers[0], stage)
    for options in ({"fsdp": True}, {"deepspeed": {"zero_optimization": {"stage": 2}}}):
        with pytest.raises(UserError, match="is set, but Accelerate would run NO"):
            check_machine(trainers[0], replace(stage, options=options))


def test_an_optimiser_that_would_begin_anew_stops_the_training(make: Make) -> None:
    """The file is there and whole; it holds no state, and a stock trainer goes on without a word."""
    saving = ("orpo.save_strategy=steps", "orpo.save_steps=1", "orpo.optim=adamw_torch")
    directory = train(make(PLAIN, None, *saving))
    shutil.rmtree(directory / "checkpoint-2")
    kept = directory / "checkpoint-1" / "optimizer.pt"
    state = torch.load(kept)
    train(directory)  # the step before resumes
    shutil.rmtree(directory / "checkpoint-2")
    torch.save({**state, "state": {}}, kept)
    seal(kept.parent)  # as if the trainer had written it so; else the checkpoint is passed over
    with pytest.raises(UserError, match="of step 1 was not restored"):
        train(directory)


def test_a_reference_that_is_not_the_start_stops_dpo_at_its_first_update(make: Make) -> None:
    directory = train(make(replace(PLAIN, method="dpo"), None, "dpo.precompute_ref_log_probs=true"))
    (file,) = directory.glob("reference-*.json")
    kept = read_json(file)
    write_json(file, {**kept, "log_probs": [[1.1 * chosen, rejected] for chosen, rejected in kept["log_probs"]]})
    with pytest.raises(UserError, match="DPO's first loss is"):
        train(directory)


def test_a_model_that_is_not_whole_is_noticed(make: Make, trainers: list[Any]) -> None:
    directory = train(make(replace(PLAIN, tuning="lora")))
    stage = Stage.load(directory)
    check_saved(trainers[0], stage)
    file = directory / "adapter" / "adapter_model.safetensors"
    save_file(dict(list(load_file(file).items())[1:]), file)
    with pytest.raises(UserError, match="was saved incompletely"):
        check_saved(trainers[0], stage)
    file.unlink()
    with pytest.raises(UserError, match="saved incompletely"):
        check_saved(trainers[0], stage)


def test_a_saved_model_lacks_nothing_and_has_the_shapes_of_its_config(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    check_loadable(tmp_path / "model", "orpo")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"
    for broken in ({name: weights[name][1:].clone()}, {name: None}):
        rest = {key: weight for key, weight in (weights | broken).items() if weight is not None}
        save_file(rest, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match="saved"):
            check_loadable(tmp_path / "model", "orpo")
    file.unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        check_loadable(tmp_path / "model", "orpo")


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapters_are_merged_into_their_own_base_alone(
    make: Make,
    tiny_model: Path,
    tmp_path: Path,
    tuning: str,
) -> None:
    directory = make(replace(PLAIN, tuning=tuning))
    shutil.copytree(tiny_model, tmp_path / "base")
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"start": str(tmp_path / "base")}))
    train(directory)
    merge(directory)
    shutil.rmtree(directory / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.lm_head.weight.data *= 20
    model.save_pretrained(tmp_path / "base")
    for again in (merge, train):
        with pytest.raises(UserError, match="is not the base that the adapter was trained on"):
            again(directory)
    assert not (directory / "model").exists()


def test_half_precision_does_not_reach_the_loss() -> None:
    head = nn.Linear(2, 3)
    watch_outputs(head)
    head(torch.ones(1, 2))
    head.bfloat16()(torch.ones(1, 2, dtype=torch.bfloat16))  # only the first one is looked at
    watch_outputs(head)
    with pytest.raises(UserError, match="bfloat16 logits"):
        head(torch.ones(1, 2, dtype=torch.bfloat16))
