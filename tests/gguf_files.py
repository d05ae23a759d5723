"""GGUF files of tiny models, written as the format's specification says."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
CHATML = (ROOT / "conf" / "chat_template" / "chatml.jinja").read_text()


def stored(weight: Any, kind: Kind) -> np.ndarray:
    """A weight in the bytes of a kind of storage; vectors stay in float32, as llama.cpp writes them."""
    return gguf.quants.quantize(weight.numpy(), kind if weight.ndim == 2 else Kind.F32)


def permuted(weight: Any, heads: int) -> Any:
    """A query's or key's matrix with the rows of each head as llama.cpp rotates them: its halves interleaved."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape).contiguous()


def write_gguf(model: Path, file: Path, kind: Kind = Kind.Q4_1, **changes: Any) -> Path:
    """Write the tiny Llama as a GGUF file, as the format's specification says; `changes` spoil it."""
    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(file, changes.get("architecture", "llama"))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    if "scaling" in changes:
        writer.add_rope_scaling_type(changes["scaling"])
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3 if token in special else 1 for token in sorted(vocabulary, key=vocabulary.get)])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template(CHATML)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    rotated = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, weight in load_file(model / "model.safetensors").items():
        heads = rotated.get(name.split(".")[-2])
        told = names.get_name(name.removesuffix(".weight"))
        if name != changes.get("without"):
            data = stored(permuted(weight, heads) if heads else weight, kind)
            writer.add_tensor(f"{told}.weight", data, raw_dtype=kind if weight.ndim == 2 else None)
    if "more" in changes:
        writer.add_tensor(changes["more"], np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
