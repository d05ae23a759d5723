"""What a training did beside its rewards, against formulas on tiny models: KL, forgetting, DPO's implicit reward."""

import shutil
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.answers.decode import decode
from eval.answers.load import load
from eval.answers.passages import OURS, identity, read_passages
from eval.answers.store import Answer, Sampling
from eval.results.beside import Scored, as_rows, beside, losses, sampled_ids, sums
from eval.results.metrics import by_implicit_reward, by_sums, forgotten
from eval.results.result import measured
from pocket.passages import COUNT, passages
from pocket.world import documents
from recipes.config import FORMAT, UserError, write_config, write_json

SETTINGS = {"prompts": 3}
SAID = [([20, 21, 22], [23, 24, 2]), ([30, 31], [40, 41, 42, 43, 44]), ([7] * 9, [2])]
PAIRS = [
    {"prompt_ids": [20, 21], "chosen_ids": [30, 31, 2], "rejected_ids": [40, 2]},
    {"prompt_ids": [22, 23], "chosen_ids": [50, 2], "rejected_ids": [60, 61, 62, 63, 2]},
]


def moved(start: Path, to: Path, by: float) -> None:
    """Save a copy of a model whose weights are moved."""
    model = AutoModelForCausalLM.from_pretrained(start)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn_like(weight)
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(start).save_pretrained(to)


@pytest.fixture
def trained(tiny_model: Path, tmp_path: Path) -> Path:
    """A DPO stage after an SFT stage after the tiny model; each has moved."""
    profile = {"name": "tiny", "model_name_or_path": str(tiny_model), "stop_tokens": ["<|im_end|>"]}
    profile |= {"pad_token": "<|pad|>"}
    start = tiny_model
    for number, name in enumerate(("sft", "dpo"), 1):
        directory = tmp_path / name
        values = {"format": FORMAT, "stage": name, "start": str(start), "start_revision": None, "model": profile}
        directory.mkdir()
        write_config(directory, values | {"options": {"beta": 0.2}})
        write_json(directory / "record.json", {"stage": name})
        moved(start, directory / "model", 0.02 * number)
        start = directory / "model"
    return tmp_path / "dpo"


def scored(directory: Path) -> tuple[Any, Scored, Scored]:
    model, tokenizer, _ = load(directory)
    texts = as_rows(["Ashford lies by the river. It is old.", "Who lives in Clayby?"], tokenizer, model)
    return model, Scored(SAID, sums(model, SAID, 0)), Scored(texts, losses(model, texts, 0))


@torch.inference_mode()
def by_hand(path: Path, prompt: list[int], response: list[int]) -> float:
    """The summed log-prob of a response, one dialogue at a time and without padding."""
    logits = AutoModelForCausalLM.from_pretrained(path)(input_ids=torch.tensor([prompt + response])).logits[0]
    found = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])
    return found.sum().item()


def test_kl_is_the_log_ratio_of_the_sampled_tokens(trained: Path, tiny_model: Path) -> None:
    _, said, texts = scored(trained)
    found = beside(trained, SETTINGS, PAIRS, said, texts, 0)
    expected = [by_hand(trained / "model", *row) - by_hand(tiny_model, *row) for row in SAID]
    assert found["kl"] == pytest.approx(expected, abs=1e-4) and max(map(abs, expected)) > 0.01
    reference = found["reference"]
    start = trained.parent / "sft" / "model"
    for side in ("chosen", "rejected"):
        rows = [(row["prompt_ids"], row[f"{side}_ids"]) for row in PAIRS]
        assert reference[side] == pytest.approx([by_hand(start, *row) / len(row[1]) for row in rows], abs=1e-5)
    assert reference["beta"] == 0.2
    known = measured(trained.parent / "sft", SETTINGS)
    known.parent.mkdir()
    for content, expected in (({"chosen": [-1, -2], "rejected": [-3, -4]}, [-3.0, -4.0]), ({}, reference["rejected"])):
        write_json(known, content)
        found = beside(trained, SETTINGS, PAIRS, said, texts, 0)["reference"]
        assert found["rejected"] == expected, "as it was measured, if it was"


def test_a_model_is_at_no_distance_from_itself(untuned: Path, trained: Path, tiny_model: Path) -> None:
    """Neither the base model nor a stage whose weights are still the base model's; SFT has no reference model."""
    _, said, texts = scored(untuned)
    assert beside(untuned, SETTINGS, PAIRS, said, texts, 0) == {"kl": [0.0] * 3, "base_text": texts.own}
    stage = trained.parent / "sft"
    shutil.rmtree(stage / "model")
    shutil.copytree(tiny_model, stage / "model")
    _, said, texts = scored(stage)
    assert beside(stage, SETTINGS, PAIRS, said, texts, 0) == {"kl": [0.0] * 3, "base_text": texts.own}


def test_the_mean_over_samples_is_the_divergence(trained: Path, tiny_model: Path) -> None:
    """Of one token, where it can be summed over the vocabulary; within four standard errors of 3,000 draws."""
    prompt, model = [20, 21, 22], load(trained)[0]
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.inference_mode():
        ours, theirs = (one(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1) for one in (model, base))
    exact = (ours.exp() * (ours - theirs)).sum().item()
    drawn = decode(model, [2], [(prompt, sample) for sample in range(3000)], Sampling(1, 1.0))
    rows = [(prompt, ids) for _, ids, _ in drawn]
    ratio = torch.tensor(sums(model, rows, 0)) - torch.tensor(sums(base, rows, 0))
    assert abs(ratio.mean() - exact) < 4 * ratio.std() / len(rows) ** 0.5 and exact > 0


def test_the_loss_on_plain_text_is_the_librarys_and_forgetting_its_rise(trained: Path, tiny_model: Path) -> None:
    """Nats per token from the second token on: the logarithm of the perplexity."""
    model, said, texts = scored(trained)
    found = beside(trained, SETTINGS, PAIRS, said, texts, 0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    for one, values in ((model, texts.own), (base, found["base_text"])):
        for (first, rest), value in zip(texts.rows, values, strict=True):
            ids = torch.tensor([first + rest])
            assert value == pytest.approx(one(input_ids=ids, labels=ids).loss.item(), abs=1e-5)
    rise = [ours - theirs for ours, theirs in zip(texts.own, found["base_text"], strict=True)]
    assert forgotten({"text": texts.own, **found}) == rise


def test_sampled_tokens_are_kept_and_those_of_a_text_stand_in_for_them(untuned: Path) -> None:
    model, tokenizer, stops = load(untuned)
    assert sampled_ids(Answer("x", 1, True, [5, 2]), tokenizer, stops[0]) == [5, 2]
    ids = tokenizer("It is old.", add_special_tokens=False)["input_ids"]
    assert sampled_ids(Answer("It is old.", len(ids), True), tokenizer, stops[0]) == [*ids, stops[0]]
    assert sampled_ids(Answer("", 0, False), tokenizer, stops[0]) == [] and sums(model, [([5], [])], 0) == [0]


def test_three_ways_to_rank_a_pair() -> None:
    """The first is preferred by its mean only, the second by its sum only; DPO's own reward knows its reference."""
    result = {
        **{"chosen": [-1.0, -2.0], "rejected": [-1.5, -1.0]},
        "tokens": {"chosen": [6, 2], "rejected": [3, 5]},
        "reference": {"beta": 0.1, "chosen": [-1.5, -2.0], "rejected": [-1.5, -1.5]},
    }
    assert by_sums(result) == [0.0, 1.0]
    assert by_implicit_reward(result) == [1.0, 0.0], "6 * 0.5 against 0, and 0 against 5 * 0.5"


def test_the_embedded_text_was_never_pretrained_on() -> None:
    found = passages()
    assert len({text for text, _ in found}) == COUNT and all(place in text for text, place in found)
    seen = {text for text in islice(documents(Random("pretraining 0")), 24_000) if isinstance(text, str)}
    assert len(seen) > 5000 and not seen & {text for text, _ in found}


def test_a_text_is_passages_between_blank_lines(tmp_path: Path) -> None:
    assert len(read_passages(OURS)) == 60
    path = tmp_path / "text.txt"
    path.write_text("One passage,\non two lines.\n\n\n\nAnother one.\n")
    assert read_passages(path) == ["One passage,\non two lines.", "Another one."]
    first = identity(path)
    path.write_text("One passage.\n\nAnother one.")
    assert first["text"] == str(path) and identity(path) != first
    for content, said in (("Only one.", "has 1 passages"), (None, "FileNotFoundError")):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(UserError, match=said):
            read_passages(path)
