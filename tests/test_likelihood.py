"""Batches change nothing: likelihoods and greedy answers equal those of one row at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from eval import likelihood
from eval.generate import answers, cut
from eval.likelihood import by_length, mean_log_probs

PAIRS = [{"prompt_ids": list(range(10, 10 + size)), "chosen_ids": [7, 8, 9][: 1 + size % 3]} for size in range(1, 13)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_mean_log_probs_are_those_of_each_row_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "TOKENS", 40)  # several batches, each padded
    found = mean_log_probs(model, Dataset.from_list(PAIRS), "chosen_ids", pad=0)
    for pair, value in zip(PAIRS, found, strict=True):
        ids = torch.tensor([pair["prompt_ids"] + pair["chosen_ids"]])
        log_probs = model(input_ids=ids).logits[0].log_softmax(-1).detach()
        start = len(pair["prompt_ids"])
        each = [log_probs[start - 1 + place, token] for place, token in enumerate(pair["chosen_ids"])]
        assert value == pytest.approx(float(torch.stack(each).mean()), abs=1e-5)


def test_logits_are_bounded_for_large_vocabularies_and_cover_no_prompt(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = mean_log_probs(model, Dataset.from_list(PAIRS), "chosen_ids", pad=0)
    shapes: list[torch.Size] = []
    monkeypatch.setattr(likelihood, "LOGITS", 4 * model.config.vocab_size * 40)
    hook = model.lm_head.register_forward_hook(lambda module, given, logits: shapes.append(logits.shape))
    assert mean_log_probs(model, Dataset.from_list(PAIRS), "chosen_ids", pad=0) == pytest.approx(expected, abs=1e-5)
    mean_log_probs(model, Dataset.from_list(PAIRS[-2:-1]), "chosen_ids", pad=0)
    hook.remove()
    assert sum(rows for rows, *_ in shapes[:-1]) == len(PAIRS)
    assert all(rows * width <= 40 for rows, width, _ in shapes)
    assert shapes[-1][:2] == (1, len(PAIRS[-2]["chosen_ids"]))


def ask(model: Any, tiny_model: Path, prompts: list[list[int]], temperature: float, seed: int = 0) -> list[Any]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return answers(model, tokenizer, [2], prompts, 12, temperature, seed, lambda count: None)


def test_greedy_answers_do_not_depend_on_the_batch(model: Any, tiny_model: Path) -> None:
    prompts = [pair["prompt_ids"] for pair in PAIRS]
    together = ask(model, tiny_model, prompts, 0.0)
    assert together == [ask(model, tiny_model, [prompt], 0.0)[0] for prompt in prompts]


def test_a_seed_gives_the_same_samples_and_another_gives_others(model: Any, tiny_model: Path) -> None:
    prompts = [pair["prompt_ids"] for pair in PAIRS]
    assert ask(model, tiny_model, prompts, 1.0) == ask(model, tiny_model, prompts, 1.0)
    assert ask(model, tiny_model, prompts, 1.0) != ask(model, tiny_model, prompts, 1.0, seed=1)


def test_an_answer_ends_at_its_first_stop_token(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer.encode("Well")
    assert cut([*ids, 2, *ids], [2], tokenizer).text == "Well"
    assert cut([*ids, 2], [2], tokenizer).stopped and not cut(ids, [2], tokenizer).stopped
    assert cut([*ids, 2], [2], tokenizer).tokens == len(ids)


def test_batches_hold_everything_once_within_the_budget() -> None:
    lengths = [5, 1, 9, 30, 2]
    batches = list(by_length(lengths, 12))
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3, 4]
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 12 for batch in batches)


def test_a_models_own_generation_settings_do_not_leak_in(model: Any, tiny_model: Path) -> None:
    """Llama's checkpoints ask for sampling at temperature 0.6: a greedy answer must stay greedy."""
    prompts = [pair["prompt_ids"] for pair in PAIRS]
    plain = ask(model, tiny_model, prompts, 0.0)
    model.generation_config = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=9.0)
    assert ask(model, tiny_model, prompts, 0.0, seed=1) == plain
