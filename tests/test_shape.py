"""A decoder's shape tells its parameters and what its layers keep for the backward pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from launch.config.schema import Config
from launch.config.shape import adapter_parameters, parameters, read_shape, saved_per_token
from recipes.config import UserError

CONF = Path(__file__).parent.parent / "conf"
Compose = Callable[..., Config]
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "vocab_size": 61, "pad_token_id": 0, "eos_token_id": 2}
GATED = {**SIZES, "intermediate_size": 160, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {**GATED, "tie_word_embeddings": True},
    "Mistral": GATED,
    "Qwen2": GATED,
    "Qwen3": {**GATED, "head_dim": 32},
    "Gemma": {**GATED, "head_dim": 32},
    "Gemma3Text": {**GATED, "head_dim": 32, "sliding_window": 512},
    "Olmo2": GATED,
    "Phi3": {**GATED, "num_key_value_heads": 4},
    "Phi": {**GATED, "num_key_value_heads": 4},
    "OPT": {**SIZES, "ffn_dim": 160, "max_position_embeddings": 512, "word_embed_proj_dim": 64, "dropout": 0.0},
}


def model_of(family: str, layers: int = 2) -> Any:
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family], num_hidden_layers=layers)
    return transformers.AutoModelForCausalLM.from_config(config).train()


@pytest.mark.parametrize("model", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_a_profiles_shape_has_its_parameters(compose: Compose, model: str) -> None:
    profile = compose(f"model={model}").model
    assert profile.shape is not None and parameters(profile.shape) == profile.parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_a_local_model_has_the_parameters_of_its_config(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    model.config.save_pretrained(tmp_path)
    shape = read_shape(tmp_path)
    assert parameters(shape) == sum(weight.numel() for weight in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear"))
    assert adapter_parameters(shape, 3, None) == sum(
        weight.numel() for weight in adapted.parameters() if weight.requires_grad
    )


def test_an_unknown_family_is_named(tmp_path: Path) -> None:
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="gpt2"):
        read_shape(tmp_path)


def kept(model: Any, tokens: int) -> float:
    """Numbers for each token that autograd keeps, every storage once, weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.randint(0, 61, (1, tokens)), use_cache=False)
    return sum(size for place, size in sizes.items() if place not in weights) / 4 / tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_keeps_what_autograd_says(family: str, tmp_path: Path) -> None:
    """The difference of two depths is a layer; Phi's and Phi-3's results are copied, which forecast.memory adds."""
    model = model_of(family)
    model.config.save_pretrained(tmp_path)
    shape = read_shape(tmp_path)
    copied = shape.hidden if family in ("Phi", "Phi3") else 0
    formula = sum(saved_per_token(shape, trains_norms=True)) + copied
    assert formula == pytest.approx((kept(model_of(family, 4), 256) - kept(model, 256)) / 2, rel=0.02)
