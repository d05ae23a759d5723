"""FLOPs against a count by hand, PyTorch's own counter, and between record and forecast; the memory of a process."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from test_shape import FAMILIES, model_of
from torch.utils.flop_counter import FlopCounterMode

from launch.config.schema import Config
from launch.config.shape import read_shape
from launch.forecast import cost
from launch.forecast.tokens import Tokens
from recipes.engine.packing import Pair, pack
from recipes.training.flops import Matrices, Reading, causal, forward, training
from recipes.training.memory import resident
from recipes.training.reading import matrices, reading

LAYERS, HIDDEN, INNER, VOCABULARY, TOKENS = 2, 64, 160, 61, 24
NORMS = (2 * LAYERS + 1) * HIDDEN
BODY = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * HIDDEN // 2 + 3 * HIDDEN * INNER) + NORMS  # two heads share a key
PAIRS = [Pair([1] * 5, [2] * 3, [3] * 7), Pair([1] * 2, [2] * 4, [3])]


def llama(tied: bool) -> Any:
    shape = FAMILIES["Llama"] | {"tie_word_embeddings": tied, "num_hidden_layers": LAYERS}
    config = transformers.LlamaConfig(**shape)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()


@pytest.mark.parametrize("tied", [True, False])
def test_a_llamas_flops_are_those_counted_by_hand(tied: bool) -> None:
    """An embedding of its own changes nothing: it is looked up."""
    found = matrices(llama(tied))
    assert found == Matrices(BODY, BODY, HIDDEN * VOCABULARY, HIDDEN * VOCABULARY, LAYERS * HIDDEN)
    read = Reading(TOKENS, scored=5, attended=causal(TOKENS))
    attention = 4 * LAYERS * HIDDEN * (TOKENS * (TOKENS + 1) / 2)
    once = 2 * BODY * TOKENS + 2 * HIDDEN * VOCABULARY * 5 + attention
    assert forward(found, read) == once and training(found, read) == 3 * once


@pytest.mark.parametrize("tied", [True, False])
def test_pytorch_counts_the_same(tied: bool) -> None:
    """Its counter leaves norms out, and eager attention computes what the causal mask hides."""
    model = llama(tied)
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.ones(1, TOKENS, dtype=torch.long), use_cache=False).logits
        once = counter.get_total_flops()
        logits.sum().backward()
    found, read = matrices(model), Reading(TOKENS, TOKENS, causal(TOKENS))
    less, more = 2 * NORMS * TOKENS, 4 * LAYERS * HIDDEN * (TOKENS**2 - causal(TOKENS))
    rotary = counter.get_total_flops() - 3 * once  # a product of its own, without a gradient
    assert once == pytest.approx(forward(found, read) - less + more - rotary / 2, rel=2e-3)
    assert counter.get_total_flops() == pytest.approx(training(found, read) - 3 * (less - more), rel=2e-3)


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    model: Any = get_peft_model(llama(False), LoraConfig(r=3, target_modules="all-linear"))
    adapters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    found, read = matrices(model), Reading(10, 4, 0)
    assert (found.body, found.trained, found.head_trained) == (BODY + adapters, adapters, 0)
    assert training(found, read) == 4 * (found.body * 10 + found.head * 4) + 2 * adapters * 10


def test_a_reward_models_head_is_counted_once_where_peft_keeps_its_original() -> None:
    shape: dict[str, Any] = FAMILIES["Llama"] | {"num_hidden_layers": LAYERS, "num_labels": 1}
    config = transformers.LlamaConfig(**shape)
    judge: Any = transformers.AutoModelForSequenceClassification.from_config(config)
    assert matrices(judge) == Matrices(BODY, BODY, HIDDEN, HIDDEN, LAYERS * HIDDEN)
    tuned = get_peft_model(judge, LoraConfig(r=3, target_modules=["q_proj"], task_type="SEQ_CLS"))
    adapters = LAYERS * 3 * 2 * HIDDEN
    assert matrices(tuned) == Matrices(BODY + adapters, adapters, HIDDEN, HIDDEN, LAYERS * HIDDEN)


@pytest.mark.parametrize("span", ["full", "completion", "last"])
def test_a_packed_row_reads_a_prompt_once_and_scores_what_the_engine_scores(span: str) -> None:
    found = reading({"pairs": PAIRS}, span)
    assert (found.tokens, found.scored) == (22, len(pack(PAIRS, span).scored))
    seen = [(query, keys) for query, keys in pack(PAIRS, span).packing.sequences]
    by_hand = 0
    for query, keys in seen:
        length, own = sum(key.stop - key.start for key in keys), query.stop - query.start
        by_hand += sum(length - own + place + 1 for place in range(own))
    assert found.attended == by_hand
    alone = [Pair([], [2] * 3, [3] * 2), Pair([], [2] * 3, [])]
    assert reading({"pairs": alone}, span).scored == len(pack(alone, span).scored)


def test_padding_is_computed_and_rows_on_one_line_see_themselves() -> None:
    mask = torch.ones(2, 6)
    batch = {"chosen_input_ids": mask, "chosen_attention_mask": mask, "rejected_attention_mask": mask[:, :4]}
    assert reading(batch, "full") == Reading(24, 24, 4 * 21)
    assert reading({"input_ids": mask, "attention_mask": mask}, "full") == Reading(12, 12, 2 * 21)
    line = {"input_ids": torch.ones(1, 5), "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}
    assert reading(line, "full") == Reading(5, 5, 6 + 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forecast_has_the_matrices_of_the_loaded_model(
    family: str, tmp_path: Path, compose: Callable[..., Config]
) -> None:
    model, config = model_of(family), compose("hardware=cpu")
    model.config.save_pretrained(tmp_path)
    shape, tokens = read_shape(tmp_path), Tokens(10, 5, 3, 7, "made")
    assert cost.matrices(config, "orpo", shape, tokens) == matrices(model)
    kind: Any = getattr(transformers, f"{family}ForSequenceClassification", None)
    if kind:
        judge = kind(type(model.config)(**{**model.config.to_dict(), "num_labels": 1}))
        assert cost.matrices(config, "reward", shape, tokens) == matrices(judge)
        assert cost.matrices(config, "reward", shape, tokens).head == sum(map(torch.numel, judge.score.parameters()))


@pytest.mark.parametrize(
    "stage, words, batch, span",
    [
        ("sft", [], [replace(pair, rejected=[]) for pair in PAIRS], "completion"),
        ("dpo", [], PAIRS, "completion"),
        ("reward", [], PAIRS, "last"),
        ("orpo", [], PAIRS, "full"),
        ("orpo", ["orpo.nll_span=completion"], PAIRS, "completion"),
    ],
)
def test_a_forecast_reads_what_the_packed_engine_reads(
    compose: Callable[..., Config], stage: str, words: list[str], batch: list[Pair], span: str
) -> None:
    """From means over the pairs; those of the squares make it exact whatever the lengths."""
    lengths = [(len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in PAIRS]
    seen = [(causal(p), causal(p + c), causal(p + r)) for p, c, r in lengths]
    prompt, chosen, rejected = (sum(part) / 2 for part in zip(*lengths, strict=True))
    attended: Any = tuple(sum(part) / 2 for part in zip(*seen, strict=True))
    tokens = Tokens(2, prompt, chosen, rejected, "counted", attended)
    assert cost.reading(compose("hardware=cpu", *words), stage, tokens).times(2) == reading({"pairs": batch}, span)


def test_resident_memory_is_that_of_the_process_and_its_peak_stays() -> None:
    before = resident("VmRSS")
    taken = torch.ones(2**24)  # 64 MiB
    assert resident("VmRSS") - before > 0.9 * 4 * len(taken)
    del taken
    assert resident("VmHWM") >= before + 0.9 * 2**26
