"""Equal treatment: what stock TRL does differently for SFT, DPO and ORPO, measured on the weights that moved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from door import launch, record, stages
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, OPTConfig, OPTForCausalLM

Words = Callable[..., list[str]]
METHODS = ("sft", "dpo", "orpo")
LN2 = 0.6931471805599453


def trained(words: Words, runs: Path, *more: str, steps: int = 5, rate: float = 1e-6) -> dict[str, Path]:
    """Train all three methods for some updates at a small learning rate; return their directories."""
    options = [f"{method}.{option}" for method in METHODS for option in (f"max_steps={steps}", f"learning_rate={rate}")]
    options += [
        f"{method}.{option}" for method in METHODS for option in ("warmup_steps=0", "lr_scheduler_type=constant")
    ]
    launch(*words(runs, "pipeline=compare", "evaluate=false", *options, *more))
    return {path.name.split("-")[0]: path for path in stages(runs)}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """The share of entries that changed."""
    pairs = [(before[name].float(), after[name].float()) for name in before]
    return sum(int((one != other).sum()) for one, other in pairs) / sum(one.numel() for one, _ in pairs)


def test_a_bf16_checkpoint_trains_in_fp32_under_every_method(words: Words, tiny_model: Path, tmp_path: Path) -> None:
    """Stock ORPO given a path would load bf16, where an update of 1e-6 leaves 98% of the weights as they are."""
    start = tmp_path / "bf16"
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(start)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(start)
    found = trained(words, tmp_path / "runs", f"model.model_name_or_path={start}")
    begin = {"sft": start, "dpo": found["sft"] / "model", "orpo": start}
    for method, directory in found.items():
        before, after = (load_file(path / "model.safetensors") for path in (begin[method], directory / "model"))
        assert all(weight.dtype == torch.float32 for weight in after.values())
        # rows of words that do not occur have no gradient; all else must move
        layers = {name: weight for name, weight in before.items() if "layers" in name}
        assert moved(layers, after) > 0.8, method


def test_qlora_adapters_train_in_fp32_under_every_method(words: Words, tmp_path: Path) -> None:
    """Stock SFT and DPO cast them to bf16, ORPO does not: 2% of the entries would move against 100%."""
    found = trained(words, tmp_path, "tuning=qlora", rate=1e-6)
    for method, directory in found.items():
        weights = load_file(directory / "adapter" / "adapter_model.safetensors")
        again = {name: weight.bfloat16().float() for name, weight in weights.items()}
        assert all(weight.dtype == torch.float32 for weight in weights.values()), method
        # entries that bf16 could not hold: nearly all of those an fp32 update has touched
        assert moved({name: weight for name, weight in weights.items() if "lora_A" in name}, again) > 0.9, method


def test_no_method_drops_activations_out(words: Words, tiny_model: Path, tmp_path: Path) -> None:
    """OPT's dropout is functional, and TRL does not find it. Without it a model's loss is that of a dropout of 0."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    shape: dict[str, Any] = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
    losses = {}
    for dropout in (0.0, 0.5):
        start = tmp_path / f"opt-{dropout}"
        torch.manual_seed(0)
        config = OPTConfig(**shape, **ids, word_embed_proj_dim=32, dropout=dropout)
        OPTForCausalLM(config).save_pretrained(start)
        tokenizer.save_pretrained(start)
        found = trained(words, tmp_path / f"runs-{dropout}", f"model.model_name_or_path={start}", steps=1)
        losses[dropout] = {method: record(found[method])["first_loss"] for method in METHODS}
    assert losses[0.5] == pytest.approx(losses[0.0], abs=1e-5)
    assert losses[0.5]["dpo"] == pytest.approx(LN2, abs=1e-5)


def test_a_dropout_that_would_do_nothing_is_refused(words: Words, tmp_path: Path) -> None:
    printed = launch(*words(tmp_path, "pipeline=orpo", "tuning=lora", "model.lora_dropout=0.1"), status=2)
    assert "model.lora_dropout=0.1 would do nothing" in printed


def test_metrics_of_one_name_mean_one_thing(words: Words, tmp_path: Path) -> None:
    found = trained(words, tmp_path, steps=1)
    names = {
        method: {key for key in record(directory)["metrics"] if key.startswith(("logps", "rewards"))}
        for method, directory in found.items()
    }
    assert names["dpo"] and names["orpo"] and not names["dpo"] & names["orpo"]
