"""Random models of every family that packed training takes, and pairs of uneven lengths for them."""

import random
from typing import Any

import torch
import transformers
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

VOCABULARY = 61
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}
GROUPED = {**SHAPE, **IDS, "num_key_value_heads": 2, "max_position_embeddings": 128}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": 7},
    "Phi3": GROUPED,
    "Phi": {**GROUPED, "num_key_value_heads": 4},
    "Qwen2": {**GROUPED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "Qwen3": {**GROUPED, "head_dim": 16},
    "Gemma": {**GROUPED, "head_dim": 16},
    "OPT": {
        **{"vocab_size": VOCABULARY, "pad_token_id": 0, "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "max_position_embeddings": 128, "dropout": 0.0, "word_embed_proj_dim": 32},
        "init_std": 0.2,
    },
}


def model_of(family: str, dtype: torch.dtype = torch.float64, kind: Any = AutoModelForCausalLM, **changes: Any) -> Any:
    """A random model of a family, with biases and norms that are not at their start."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**FAMILIES.get(family, GROUPED), **changes})
    model = kind.from_config(config)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return model.to(dtype)


def classifier_of(family: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A random classifier of a family with one output, its head not at zero."""
    return model_of(family, dtype, AutoModelForSequenceClassification, num_labels=1, **changes)


def rows_of(count: int, seed: int = 0) -> Dataset:
    """Pairs of uneven lengths; the first has answers of one token."""
    draw = random.Random(seed)
    lengths = [(3, 1, 1)] + [(draw.randint(1, 20), draw.randint(1, 20), draw.randint(1, 20)) for _ in range(count - 1)]
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    ids = [[[draw.randrange(3, VOCABULARY) for _ in range(length)] for length in three] for three in lengths]
    return Dataset.from_list([dict(zip(names, three, strict=True)) for three in ids])


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float) -> None:
    """Each within a share of its own size; below a millionth of the largest it is rounding (a key's bias has none)."""
    floor = 1e-6 * max(value.abs().max().item() for value in expected.values())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        difference = (found[name].double() - value.double()).abs().max().item()
        assert difference <= relative * value.abs().max().item() + floor, name
