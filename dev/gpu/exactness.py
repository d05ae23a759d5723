"""Packed ORPO against plain forward passes over each dialogue: loss and gradients, for every path of its attention."""

import copy
import tempfile
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from dev.bench.measure import Case, build_trainer, loss_of
from dev.bench.shapes import Lengths
from dev.bench.workload import adapters, made_pairs
from dev.gpu.job import Skip
from recipes.engine.loss import log_odds
from recipes.engine.packing import Pair

VOCABULARY = 512
BETA = 0.5
WINDOW = 16  # of a sliding window: shorter than most dialogues
SIZES = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 512}
GATED = {**SIZES, **IDS, "intermediate_size": 512, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GATED,
    "qwen3": {**GATED, "head_dim": 64},
    "gemma3_text": {
        **GATED,
        "head_dim": 64,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "phi3": {**GATED, "sliding_window": WINDOW},
    "opt": {**SIZES, **IDS, "ffn_dim": 512, "word_embed_proj_dim": 256, "dropout": 0.0},
}
TUNINGS = ("full", "lora")
PAIRS = 6
LENGTHS = Lengths((20, 24, 16), (0.8, 0.8, 0.8))
# The sizes of published models' heads, on dialogues of several blocks of a flash kernel's keys and chunks of the head.
LONG = Lengths((200, 240, 160), (0.4, 0.4, 0.4))
LONGEST = {LENGTHS: 200, LONG: 700}  # tokens of a dialogue
CHUNK_LOGITS = 2**14
ROOMY = {**GATED, "max_position_embeddings": 1024}
HEADS: dict[str, dict[str, Any]] = {
    **{f"llama, heads of {size}": {**ROOMY, "head_dim": size} for size in (80, 128, 256)},
    "phi3, heads of 96": {**ROOMY, "hidden_size": 384, "sliding_window": 300},
}
# Tolerated difference of two computations of one formula: float32's 24 bits over some thousand additions.
LOSS, GRADIENT = 1e-5, 1e-4
# In bf16 packed and plain passes round the same numbers in different order: neither is certain to be nearer to float64.
HALF = 1.5  # times the plain passes' distance from float64

Result = tuple[float, dict[str, Tensor]]  # a loss and the gradients by weight


def build(family: str, tuning: str) -> Any:
    """Return a small random model of a family in float32, with random adapters under LoRA."""
    from peft import get_peft_model

    torch.manual_seed(0)
    config = AutoConfig.for_model(family.partition(",")[0], **(FAMILIES | HEADS)[family])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for weight in model.parameters():  # biases and norms away from their initial values
        weight.data += 0.02 * torch.randn_like(weight)
    peft = adapters(tuning, random_start=True)
    model = model if peft is None else get_peft_model(model, peft)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def plain_loss(model: Any, pairs: list[Pair]) -> Tensor:
    """Return ORPO's loss (equation 7 of the paper) from two forward passes for each pair, one dialogue at a time."""
    nll, tokens, means = [], 0, []
    for pair in pairs:
        border = len(pair.prompt) - 1
        chosen, rejected = (
            log_probs_of(model, torch.tensor([pair.prompt + answer], device=model.device))
            for answer in (pair.chosen, pair.rejected)
        )
        nll.append(-chosen.sum())
        tokens += len(chosen)
        means.append((chosen[border:].mean(), rejected[border:].mean()))
    chosen_means, rejected_means = (torch.stack(part) for part in zip(*means, strict=True))
    return torch.stack(nll).sum() / tokens - BETA * logsigmoid(log_odds(chosen_means) - log_odds(rejected_means)).mean()


def log_probs_of(model: Any, ids: Tensor) -> Tensor:
    """Return the log-probs of `ids` (1, T) except the first, in float32 at least."""
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def plain(model: Any, pairs: list[Pair], dtype: torch.dtype) -> Result:
    """Return loss and gradients of plain passes: in float64, in float32, or under autocast to bf16."""
    model = copy.deepcopy(model).to(torch.promote_types(dtype, torch.float32))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = plain_loss(model, pairs)
    return backward(model, loss)


def packed(model: Any, pairs: list[Pair], half: bool) -> Result:
    """Return loss and gradients of the packed trainer."""
    with tempfile.TemporaryDirectory() as directory:
        case = Case("", "", "", len(pairs), "packed", half=half)
        trainer = build_trainer(case, copy.deepcopy(model), pairs, None, directory)
        trainer.beta = BETA
        with trainer.accelerator.autocast(), patch("recipes.engine.log_probs.CHUNK_LOGITS", CHUNK_LOGITS):
            loss = loss_of(trainer)
        return backward(trainer.model, loss)


def backward(model: Any, loss: Tensor) -> Result:
    """Return the loss and the gradient of every weight that trains, in float64 on the CPU."""
    loss.backward()
    named = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return loss.item(), {name: gradient.double().cpu() for name, gradient in named.items()}


def distance(found: Result, truth: Result) -> dict[str, float]:
    """Return a result's distance from float64's.

    Returns:
        `loss`: the relative difference; `gradient`: the norm of all gradients' difference, relative to their norm.
    """
    (loss, gradients), (true_loss, true_gradients) = found, truth
    assert gradients.keys() == true_gradients.keys()
    apart = sum(((gradients[name] - true) ** 2).sum() for name, true in true_gradients.items())
    size = sum((true**2).sum() for true in true_gradients.values())
    return {"loss": abs(loss - true_loss) / abs(true_loss), "gradient": float((apart / size) ** 0.5)}


def exactness(family: str, tuning: str) -> dict[str, Any]:
    """Return the distances from float64 of plain and packed passes, by precision and path of the attention.

    Raises:
        Skip: this Transformers has no such family.
    """
    if family.partition(",")[0] not in CONFIG_MAPPING:
        raise Skip(f"this Transformers has no {family}")
    model = build(family, tuning)
    lengths = LONG if family in HEADS else LENGTHS
    pairs = made_pairs(lengths, PAIRS, LONGEST[lengths], VOCABULARY)
    truth = plain(model, pairs, torch.float64)
    found = {
        "float32, plain": distance(plain(model, pairs, torch.float32), truth),
        "float32, packed": distance(packed(model, pairs, half=False), truth),
        "bf16, plain": distance(plain(model, pairs, torch.bfloat16), truth),
    }
    with patch("recipes.engine.attention.flash_takes", return_value=False):
        found["bf16, packed by SDPA"] = distance(packed(model, pairs, half=True), truth)
    if torch.cuda.is_available():
        found["bf16, packed by flash"] = distance(packed(model, pairs, half=True), truth)
    return {"distances": found, "exact": exact(found)}


def exact(found: dict[str, dict[str, float]]) -> bool:
    """Whether packed passes compute the same as plain ones, within rounding."""
    plain_half = found["bf16, plain"]
    single = found["float32, packed"]["loss"] <= LOSS and found["float32, packed"]["gradient"] <= GRADIENT
    halves = [of for name, of in found.items() if name.startswith("bf16, packed")]
    return single and all(of["gradient"] <= HALF * plain_half["gradient"] for of in halves)
