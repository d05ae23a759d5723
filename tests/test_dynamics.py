"""A curve's points are what the checkpoints say of the held-out pairs, by an independent sum; seeds are one curve."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from eval import dynamics
from eval.commands.cli import read_words
from eval.results.session import COSTS
from recipes.config import FORMAT, UserError, write_config, write_json
from recipes.data.pairs import open_pairs
from recipes.data.prepare import prepare
from recipes.profiles import Dataset, Model
from recipes.training.tokenizer import load_tokenizer

PROFILE: dict[str, Any] = {"name": "tiny", "stop_tokens": ["<|im_end|>"], "pad_token": "<|pad|>"}
UPDATES, HELD_OUT = 3, 5


@pytest.fixture(scope="module")
def pairs(tiny_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rows") / "pairs"
    model = Model(model_name_or_path=str(tiny_model), **PROFILE)
    prepare(
        Dataset("file", str(pairs_file), test_fraction=0.2),
        model,
        load_tokenizer(model, str(tiny_model)),
        directory,
        say=lambda _: None,
    )
    return directory


def disturbed(model: Any, seed: int) -> Any:
    """The model with other weights where it trains any."""
    torch.manual_seed(seed)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight) * weight.requires_grad
    return model


def stage(directory: Path, pairs: Path, start: Path, seed: int, adapters: bool = False, **values: Any) -> Path:
    """A finished stage with a checkpoint after each of its updates, as the launcher leaves one."""
    directory.mkdir(parents=True)
    known = {"stage": "sft", "seed": seed, "start": str(start), "start_revision": None, "batch_size": 4}
    options = {"seed": seed, "output_dir": str(directory), "beta": 0.1} | values
    write_config(directory, {"format": FORMAT, **known, "pairs": str(pairs), "model": PROFILE, "options": options})
    write_json(directory / "record.json", {"stage": "sft", "updates": UPDATES, **dict.fromkeys(COSTS, 1)})
    model: Any = AutoModelForCausalLM.from_pretrained(start)
    if adapters:
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for step in range(1, UPDATES + 1):
        disturbed(model, 10 * seed + step).save_pretrained(directory / f"checkpoint-{step}")
    (model.merge_and_unload() if adapters else model).save_pretrained(directory / "model")
    return directory


@torch.inference_mode()
def by_hand(model: Any, pairs: Path, side: str) -> list[float]:
    """Equation 3, one pair at a time."""
    values = []
    rows: Any = open_pairs(pairs)["test"].select(range(HELD_OUT))
    for row in rows:
        prompt, answer = row["prompt_ids"], row[f"{side}_ids"]
        log_probs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        found = [log_probs[len(prompt) + place - 1, token].item() for place, token in enumerate(answer)]
        values.append(sum(found) / len(answer))
    return values


def test_points_are_the_checkpoints_and_seeds_are_one_curve(tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    directories = [stage(tmp_path / f"sft-{seed}", pairs, tiny_model, seed) for seed in (0, 1)]
    directories.append(stage(tmp_path / "other", pairs, directories[1] / "model", 0, beta=0.2))
    directories.append(stage(tmp_path / "another", pairs, directories[1] / "model", 0))
    first, *others = dynamics.dynamics(directories, HELD_OUT)
    assert (first.seeds, first.steps, first.setting) == ([0, 1], [0, 1, 2, 3], "") and first.chosen.shape == (4, 2, 5)
    assert [curve.setting for curve in others] == ["sft.beta=0.2", "sft.beta=0.1"]
    for side in ("chosen", "rejected"):
        found = getattr(first, side)
        for step, weights in enumerate([tiny_model, *(directories[1] / f"checkpoint-{step}" for step in (1, 2, 3))]):
            expected = by_hand(AutoModelForCausalLM.from_pretrained(weights), pairs, side)
            assert found[step, 1] == pytest.approx(expected, abs=1e-4)
        assert found[0, 0].tolist() == found[0, 1].tolist(), "seeds start from one model"
        assert getattr(others[0], side)[0, 0].tolist() == found[-1, 1].tolist(), (
            "a second stage starts at the first's end"
        )


def test_adapters_are_scored_on_what_they_were_trained_on(tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    directory = stage(tmp_path / "sft-0", pairs, tiny_model, 0, adapters=True)
    (curve,) = dynamics.dynamics([directory], HELD_OUT)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = PeftModel.from_pretrained(base, str(directory / "checkpoint-2"))
    assert curve.chosen[2, 0] == pytest.approx(by_hand(adapted, pairs, "chosen"), abs=1e-4)
    assert np.abs(curve.chosen[2] - curve.chosen[0]).max() > 1e-3, "they change something"


def test_what_was_scored_is_kept_and_too_few_points_are_said(
    tiny_model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = stage(tmp_path / "sft-0", pairs, tiny_model, 0)
    words = [str(directory), f"pairs={HELD_OUT}"]
    dynamics.main(*read_words(words, dynamics.Options))
    assert "sft.save_total_limit=null" in re.sub(r"\s+", " ", capsys.readouterr().out), "two between start and end"
    drawn = (directory / "dynamics.svg").read_text()
    assert "var(" not in drawn and {"chosen", "rejected", "SFT"} <= {*ElementTree.fromstring(drawn).itertext()}
    (kept,) = (path for path in directory.glob("eval/dynamics-*.json") if json.loads(path.read_text())["step"] == 2)
    write_json(kept, {"step": 2, "chosen": [-0.5] * HELD_OUT, "rejected": [-2.0] * HELD_OUT})
    dynamics.main(*read_words(words, dynamics.Options))
    (curve,) = json.loads((directory / "dynamics.json").read_text())
    assert curve["chosen"][2]["mean"] == -0.5 and curve["rejected"][2]["mean"] == -2.0, "read, not scored again"


def test_what_has_no_curve_is_refused(untuned: Path, tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    directory = stage(tmp_path / "sft-0", pairs, tiny_model, 0)
    (directory / "checkpoint-1" / "model.safetensors").unlink()
    for words, said in {
        (str(untuned),): "no trained language model",
        (str(untuned.parent),): "no session",
        (str(directory), "pairs=1"): "pairs must be at least 2",
        (str(directory),): "has no complete weights",
    }.items():
        with pytest.raises(UserError, match=said) as error:
            dynamics.main(*read_words(list(words), dynamics.Options))
        assert "\n" not in str(error.value)
