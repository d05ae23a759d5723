"""What follows from a decoder's shape: its parameters, its adapters', and what a layer keeps for the backward pass."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.config import UserError
from recipes.profiles import Model, Shape
from recipes.system.paths import expanded

GATED = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma3_text", "olmo2")
FAMILIES = (*GATED, "phi", "opt")
TIED = ("opt", "gemma", "gemma3_text")  # where config.json leaves it out
NORMS = {"gemma3_text": 4}  # RMSNorms of a layer in the residual stream; the other gated families have two
HEAD_NORMS = ("qwen3", "gemma3_text", "olmo2")  # of queries and keys


def read_shape(directory: Path) -> Shape:
    """Return the shape of a local model directory.

    Raises:
        UserError: its config.json is missing, damaged, or of a model family that is not supported.
    """
    path = directory / "config.json"
    try:
        return shape_from(json.loads(path.read_text()))
    except UnknownFamily as error:
        raise UserError(
            f"{path}: cannot forecast a {error} model's memory; supported are {', '.join(FAMILIES)}"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} lacks the model's shape ({error!r}): copy the model again") from None


class UnknownFamily(Exception):
    """A config.json of a model family whose layers are not known here; the message is its name."""


def shape_from(config: dict[str, Any]) -> Shape:
    """Return the shape that a config.json gives.

    Raises:
        UnknownFamily: it is of another family than `FAMILIES`.
        KeyError: a size is missing.
    """
    family = config["model_type"]
    if family not in FAMILIES:
        raise UnknownFamily(family)
    opt, hidden, heads = family == "opt", config["hidden_size"], config["num_attention_heads"]
    embedding, head = config.get("word_embed_proj_dim"), config.get("head_dim")
    return Shape(
        family=family,
        layers=config["num_hidden_layers"],
        hidden=hidden,
        intermediate=config["ffn_dim" if opt else "intermediate_size"],
        heads=heads,
        vocabulary=config["vocab_size"],
        key_value_heads=config.get("num_key_value_heads"),
        head=head if head and head * heads != hidden else None,
        tied=config.get("tie_word_embeddings", family in TIED),
        positions=config["max_position_embeddings"] if opt else 0,
        embedding=embedding if embedding != hidden else None,
    )


def query_width(shape: Shape) -> int:
    """Return the width of a layer's queries."""
    return shape.head * shape.heads if shape.head else shape.hidden


def key_value_width(shape: Shape) -> int:
    """Return the width of a layer's keys, and of its values."""
    return query_width(shape) * (shape.key_value_heads or shape.heads) // shape.heads


def linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """Return the inputs and outputs of a layer's matrices, by their names in Transformers."""
    hidden, inner, wide, narrow = shape.hidden, shape.intermediate, query_width(shape), key_value_width(shape)
    attention = {"q_proj": (hidden, wide), "k_proj": (hidden, narrow), "v_proj": (hidden, narrow)}
    if shape.family == "phi3":
        fused = {"qkv_proj": (hidden, wide + 2 * narrow), "gate_up_proj": (hidden, 2 * inner)}
        return {**fused, "o_proj": (wide, hidden), "down_proj": (inner, hidden)}
    if shape.family in GATED:
        gated = {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}
        return {**attention, "o_proj": (wide, hidden), **gated}
    out = "dense" if shape.family == "phi" else "out_proj"
    return {**attention, out: (hidden, hidden), "fc1": (hidden, inner), "fc2": (inner, hidden)}


def layer_parameters(shape: Shape) -> int:
    """Return the number of weights of one layer: its matrices, their biases and its norms."""
    matrices = linears(shape)
    count = sum(inputs * outputs for inputs, outputs in matrices.values())
    biased = {"qwen2": ("q_proj", "k_proj", "v_proj"), "phi": matrices, "opt": matrices}.get(shape.family, ())
    count += sum(matrices[name][1] for name in biased)
    return count + {"phi": 2, "opt": 4, **NORMS}.get(shape.family, 2) * shape.hidden + head_norms(shape)


def head_norms(shape: Shape) -> int:
    """Return the number of weights of a layer's norms of queries and keys: OLMo 2 has one for all heads together."""
    if shape.family not in HEAD_NORMS:
        return 0
    wide = query_width(shape)
    return wide + key_value_width(shape) if shape.family == "olmo2" else 2 * wide // shape.heads


def head_parameters(shape: Shape) -> int:
    """Return the number of weights of the LM head."""
    return shape.vocabulary * (shape.embedding or shape.hidden)


def lm_head_parameters(shape: Shape) -> int:
    """Return the number of weights of the LM head with its bias, tied to the embedding or not."""
    return head_parameters(shape) + (shape.vocabulary if shape.family == "phi" else 0)


def body_parameters(shape: Shape) -> int:
    """Return the number of weights without embeddings and LM head: those that every token is multiplied with."""
    looked_up = 0 if shape.tied else head_parameters(shape)
    looked_up += (shape.positions + 2) * shape.hidden if shape.family == "opt" else 0
    return parameters(shape) - lm_head_parameters(shape) - looked_up


def parameters(shape: Shape) -> int:
    """Return the number of weights, tied ones once."""
    count = shape.layers * layer_parameters(shape) + head_parameters(shape) * (1 if shape.tied else 2)
    if shape.family == "phi":
        return count + 2 * shape.hidden + shape.vocabulary  # the LM head has a bias
    if shape.family == "opt":
        count += (shape.positions + 2) * shape.hidden
        # opt-350m alone has narrow embeddings, projections to and from them, and no norm after its last layer
        return count + (2 * shape.embedding * shape.hidden if shape.embedding else 2 * shape.hidden)
    return count + shape.hidden


def adapter_parameters(shape: Shape, rank: int, targets: list[str] | None) -> int:
    """Return the number of weights of LoRA adapters on each layer's `targets`; None or `all-linear`: all matrices."""
    matrices = linears(shape)
    chosen = matrices if not targets or "all-linear" in targets else targeted(matrices, targets)
    return shape.layers * rank * sum(sum(matrices[name]) for name in chosen)


def targeted(matrices: Iterable[str], targets: list[str]) -> list[str]:
    """Return the matrices that targets name, by themselves or at the end of a path.

    Where none is found, as of a pattern of paths, all are: the forecast errs on the safe side.
    """
    ends = {target.rpartition(".")[2] for target in targets}
    return [name for name in matrices if name in ends] or list(matrices)


def saved_per_token(shape: Shape, trains_norms: bool) -> tuple[float, float]:
    """Return how many numbers of a token one layer keeps for the backward pass without activation checkpointing.

    What autograd saves in Transformers' modelling code: inputs of matrices, of norms and of activation functions,
    queries, keys, values and results of attention. RMSNorm keeps its input, the normalised states (for its weight's
    gradient) and, as the next matrix's input, its result; a fused matrix's whole result lives as long as a part.

    Returns:
        How many numbers belong to the residual stream and its norms (float32 under autocast), and how many do not.
    """
    hidden, inner, wide, narrow = shape.hidden, shape.intermediate, query_width(shape), key_value_width(shape)
    attention = 2 * wide + 2 * narrow  # queries, keys, values and the result, which is the next matrix's input
    if shape.family == "phi3":
        attention += wide + narrow  # values are a view of the fused result
    if shape.family in GATED:
        normed = NORMS.get(shape.family, 2) * hidden + (wide + narrow if shape.family in HEAD_NORMS else 0)
        return (2 if trains_norms else 1) * normed, attention + 2 * hidden + 4 * inner
    if shape.family == "phi":
        return hidden, attention + hidden + 5 * inner  # one norm; GELU keeps four intermediate values, and its result
    return 2 * hidden, attention + 2 * hidden + inner


def shape_of(model: Model) -> Shape:
    """Return a model's shape: of its local directory, else of its profile.

    Raises:
        UserError: neither gives it.
    """
    directory = expanded(model.model_name_or_path)
    if (directory / "config.json").is_file():
        return read_shape(directory)
    if model.shape is None:
        raise UserError(f"model={model.name} has no shape in its profile: add one, or give a local directory")
    return model.shape
