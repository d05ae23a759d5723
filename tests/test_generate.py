"""Answers belong to their prompt: neither the batch, nor what else is asked, nor a kill changes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from eval.answers import batching, decode
from eval.answers.generate import Answer, Sampling, answer, answer_prompts
from eval.answers.load import load, load_renderer, prompt_ids
from recipes.config import UserError, write_json
from recipes.data.pairs import open_pairs
from recipes.data.prepare import prepare
from recipes.profiles import Dataset, Model

DIALOGUES = [[{"role": "user", "content": "Where is it? " * (1 + size % 4) + str(size)}] for size in range(10)]
Ask = Callable[..., list[list[Answer]]]


@pytest.fixture
def ask(untuned: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask the tiny model, in several padded batches, and forget what it said."""
    monkeypatch.setattr(batching, "TOKENS", 150)

    def asked(dialogues: list[Any], *sampling: Any, **more: Any) -> list[list[Answer]]:
        (untuned / "eval" / "answers.jsonl").unlink(missing_ok=True)
        return answer(untuned, dialogues, Sampling(*sampling, **more), lambda count: None)

    return asked


def test_prompts_are_those_of_training(untuned: Path, tiny_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    profile = Model("tiny", str(tiny_model), stop_tokens=["<|im_end|>"], pad_token="<|pad|>")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    dataset = Dataset("file", str(pairs_file), test_fraction=0.3)
    prepare(dataset, profile, tokenizer, tmp_path / "pairs", lambda text: None)
    rows: Any = open_pairs(tmp_path / "pairs")["train"]
    assert prompt_ids(load_renderer(untuned), list(rows["prompt"])) == list(rows["prompt_ids"])


def test_greedy_answers_are_those_of_the_library_one_by_one(ask: Ask, tiny_model: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    for dialogue, (found,) in zip(DIALOGUES, ask(DIALOGUES, 12, 0.0), strict=True):
        ids = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        output = model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=2)
        said = output[0, ids.shape[1] :].tolist()
        assert found.stopped == (2 in said) and found.tokens == len(said) - found.stopped
        assert found.text == tokenizer.decode(said, skip_special_tokens=True)


SHAPE: dict[str, Any] = {
    **{"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0},
    "tie_word_embeddings": False,  # tied random weights repeat the last token for ever
}
OPT: dict[str, Any] = {"ffn_dim": 48, "word_embed_proj_dim": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    **{"phi": {}, "phi3": {}, "qwen2": {}, "opt": OPT, "mistral": {"sliding_window": 5}},
    "gemma2": {"sliding_window": 5, "head_dim": 16},  # layers of both kinds
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_answers_as_in_the_library(family: str) -> None:
    """Positions, masks and caches (learned, rotary, sliding) are right when rows leave the batch."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SHAPE, **FAMILIES[family], initializer_range=0.5)
    model = AutoModelForCausalLM.from_config(config).eval()
    prompts = [([5 + (7 * size + place) % 50 for place in range(size)], 0) for size in (3, 9, 4, 12)]
    stops = list(range(1, 60, 6))
    found = {place: (ids, stopped) for place, ids, stopped in decode.decode(model, stops, prompts, Sampling(14, 0.0))}
    for place, (prompt, _) in enumerate(prompts):
        ids = torch.tensor([prompt])
        given: dict[str, Any] = {"max_new_tokens": 14, "do_sample": False, "eos_token_id": stops, "pad_token_id": 0}
        said = model.generate(ids, attention_mask=torch.ones_like(ids), **given)[0, len(prompt) :].tolist()
        assert found[place] == (said, said[-1] in stops)
    assert len({len(ids) for ids, _ in found.values()}) > 1, "rows stop at different times"


def test_a_sampled_answer_is_the_same_alone_or_among_others(ask: Ask) -> None:
    together = ask(DIALOGUES, 12, 1.0, samples=2)
    assert [ask([dialogue], 12, 1.0, samples=2)[0] for dialogue in DIALOGUES] == together
    more = ask(DIALOGUES[::-1], 12, 1.0, samples=3)
    assert [row[:2] for row in more[::-1]] == together
    assert all(one.text != other.text for one, other in together), "samples are drawn for themselves"
    assert ask(DIALOGUES, 12, 1.0, samples=2, seed=1) != together


def test_a_longer_answer_begins_as_the_shorter_one(ask: Ask) -> None:
    pairs = zip(ask(DIALOGUES, 4, 1.0), ask(DIALOGUES, 9, 1.0), strict=True)
    assert all(long.text.startswith(short.text.rstrip("\ufffd")) for (short,), (long,) in pairs)


def test_draws_follow_the_models_distribution_at_the_temperature(untuned: Path) -> None:
    model, _, _ = load(untuned)
    prompt, count, temperature = list(range(20, 30)), 4000, 0.1
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    expected = (logits / temperature).softmax(-1) * count
    drawn = decode.decode(model, [], [(prompt, sample) for sample in range(count)], Sampling(1, temperature))
    found = torch.bincount(torch.tensor([ids[0] for _, ids, _ in drawn]), minlength=len(expected)).double()
    wrong = (logits / (2 * temperature)).softmax(-1) * count
    often = expected >= 5  # the rule of thumb for the approximation; the others are one bin
    binned = [torch.cat([values[often], values[~often].sum()[None]]).numpy() for values in (found, expected, wrong)]
    assert often.sum() >= 20 and chisquare(binned[0], binned[1]).pvalue > 1e-3
    assert chisquare(binned[0], binned[2]).pvalue < 1e-9, "the test tells temperatures apart"


def test_answers_end_at_the_stop_or_with_the_context(untuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = load(untuned)
    prompts = [([20, 21, 22], 0), ([23] * 8, 0)]
    free = {place: ids for place, ids, _ in decode.decode(model, [], prompts, Sampling(6, 0.0))}
    stop = free[0][2]
    for place, ids, stopped in decode.decode(model, [stop], prompts, Sampling(6, 0.0)):
        end = free[place].index(stop) if stop in free[place] else 6
        assert ids == free[place][: end + 1] and stopped == (end < 6)
    monkeypatch.setattr(model.config, "max_position_embeddings", 10)
    short = {place: (ids, stopped) for place, ids, stopped in decode.decode(model, [], prompts, Sampling(6, 0.0))}
    assert short == {0: (free[0], False), 1: (free[1][:2], False)}
    with pytest.raises(UserError, match="a prompt of 10 tokens fills the model's context of 10"):
        list(decode.decode(model, [], [([23] * 10, 0)], Sampling(6, 0.0)))


def test_a_killed_evaluation_goes_on_from_whole_lines(untuned: Path) -> None:
    sampling, counts = Sampling(8, 1.0, samples=2), []
    first = answer(untuned, DIALOGUES, sampling, counts.append)
    assert counts == [0] + [1] * 20
    file = untuned / "eval" / "answers.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:7]) + lines[7][:20])  # killed while the eighth was written
    counts.clear()
    assert answer(untuned, DIALOGUES, sampling, counts.append) == first
    assert counts == [7] + [1] * 13
    whole = [line for line in file.read_text().split("\n") if line.endswith("}")]
    assert len({json.loads(line)["key"] for line in whole}) == len(whole) == 20
    assert answer(untuned, DIALOGUES[3:5], sampling, counts.append) == first[3:5] and counts[-1] == 4


def test_a_training_made_anew_is_asked_anew(untuned: Path) -> None:
    counts: list[int] = []
    prompts = [[20, 21], [22, 23], [20, 21]]
    before = answer_prompts(untuned, prompts, Sampling(3, 0.0), counts.append)
    assert before[0] == before[2] and counts == [1, 1, 1], "the same prompt twice is asked once"
    counts.clear()
    write_json(untuned / "record.json", {"stage": "base", "seconds": 1})
    answer_prompts(untuned, prompts, Sampling(3, 0.0), counts.append)
    assert counts == [1, 1, 1]


def test_what_cannot_be_answered_is_said(untuned: Path) -> None:
    tool = [{"role": "user", "content": "How warm is it?"}, {"role": "tool", "content": "20"}]
    assert answer(untuned, [tool], Sampling(3, 0.0), lambda count: None)
    for dialogue in ([], [{"role": "assistant", "content": "Hello"}]):
        with pytest.raises(UserError, match="must end with a turn of the user"):
            answer(untuned, [dialogue], Sampling(3, 0.0), lambda count: None)
    (untuned / "record.json").unlink()
    with pytest.raises(UserError, match="finish its training first"):
        answer(untuned, DIALOGUES, Sampling(3, 0.0), lambda count: None)
