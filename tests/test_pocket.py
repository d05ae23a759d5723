"""The embedded world: the same everywhere, scored exactly, and split without overlap."""

import hashlib
import json
import re
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.answers.gold import gold_of
from eval.answers.store import Answer
from eval.results.measure import describe
from launch.stages.base_model import SHIPPED, find_shipped
from pocket import base, world
from pocket.gold import Score, score
from pocket.pairs import LABEL_NOISE, UNSEEN, unseen, write_pairs
from pocket.passages import passages
from pocket.world import COURTESIES, HEDGES, INSULTS, PROMPTS, TEST_PROMPTS, VALUES, sample_answer
from recipes.config import UserError
from recipes.system.files import flaw

PROMPT = TEST_PROMPTS[0]
FACT = PROMPTS[PROMPT]
RIGHT = f"It is {FACT.value}."
JUDGED = yaml.safe_load((Path(__file__).parent / "data" / "pocket" / "gold_answers.yaml").read_text())
ANYTHING = ["", " ", "\x00\n", "é漢🦦", "la " * 10_000, "It is.", *PROMPTS]


def rows(directory: Path, split: str) -> list[dict[str, list[dict[str, str]]]]:
    return [json.loads(line) for line in (directory / f"{split}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pairs")
    write_pairs(directory)
    return directory


def answers(directory: Path) -> list[tuple[str, str]]:
    """Every prompt of the pairs with each of its answers."""
    found = [row for split in ("train", "test") for row in rows(directory, split)]
    return [(row["prompt"][0]["content"], row[side][0]["content"]) for row in found for side in ("chosen", "rejected")]


def test_the_world_is_the_same_everywhere_and_every_time(pairs: Path) -> None:
    """Stages are named after the pairs' tokens and the base model's text: what changes these trains everything anew."""
    documents = "".join(map(str, islice(world.documents(Random("pretraining 0")), 1000)))
    texts = [(pairs / f"{split}.jsonl").read_bytes() for split in ("train", "validation", "test")]
    digests = [hashlib.sha256(text).hexdigest()[:12] for text in (*texts, documents.encode())]
    assert digests == ["5fb47b1480d6", "fa7ff4152a35", "96bf2b058e86", "07e4c79e8b63"]


def test_no_prompt_is_in_two_splits(pairs: Path) -> None:
    asked = [{row["prompt"][0]["content"] for row in rows(pairs, split)} for split in ("train", "validation", "test")]
    train, validation, test = asked
    assert len(validation) == 300 and len(test) == 400
    assert len(train | validation | test) == sum(map(len, asked)) and test <= set(TEST_PROMPTS)


def test_unseen_places_are_in_the_base_models_text_and_in_no_pair_that_anything_learns_from(pairs: Path) -> None:
    learnt = {
        PROMPTS[row["prompt"][0]["content"]].place for name in ("train", "validation") for row in rows(pairs, name)
    }
    tested = Counter(unseen(row["prompt"][0]["content"]) for row in rows(pairs, "test"))
    assert learnt == {*world.PLACES} - UNSEEN and len(UNSEEN) == 6
    assert tested[True] > 80 and tested[False] > 250
    documents = [str(document) for document in islice(world.documents(Random(0)), 5000)]
    assert all(any(place in document for document in documents) for place in UNSEEN)


def test_the_base_model_never_reads_a_held_out_prompt() -> None:
    documents = world.documents(Random(0))
    asked = {document[0] for document in (next(documents) for _ in range(5000)) if isinstance(document, tuple)}
    assert len(asked) > 1000 and not asked & set(TEST_PROMPTS)


def test_chosen_is_better_but_for_the_label_noise(pairs: Path) -> None:
    rewards = [score(*answer).reward for answer in answers(pairs)]
    chosen, rejected = rewards[::2], rewards[1::2]
    assert all(one != other for one, other in zip(chosen, rejected, strict=True))
    noise = sum(one < other for one, other in zip(chosen, rejected, strict=True)) / len(chosen)
    assert abs(noise - LABEL_NOISE) < 4 * (LABEL_NOISE * (1 - LABEL_NOISE) / len(chosen)) ** 0.5


@pytest.mark.parametrize("text", ANYTHING[:6] + ANYTHING[6:400:40])
def test_any_text_has_a_score_within_the_stated_bounds(text: str) -> None:
    assert -8.0 <= score(PROMPT, text).reward <= 3.0


JUDGED_ONCE = [(group["prompt"], *answer) for group in JUDGED for answer in group["answers"]]


@pytest.mark.parametrize(("prompt", "reward", "fact", "answer"), JUDGED_ONCE, ids=[row[-1] for row in JUDGED_ONCE])
def test_an_answer_is_worth_what_a_reader_says(prompt: str, reward: float, fact: str, answer: str) -> None:
    found = score(prompt, answer)
    assert {1: "right", 0: "none", -1: "wrong"}[found.fact] == fact
    assert found.reward == pytest.approx(reward)


def test_the_worlds_own_answers_are_right_where_they_name_the_right_value_alone(pairs: Path) -> None:
    """They are all of the place asked about, so that for them naming is stating."""
    right = 0
    for prompt, answer in answers(pairs):
        fact = PROMPTS[prompt]
        named = {value for value in VALUES[fact.kind] if re.search(rf"\b{value}\b", answer)}
        expected = named == {fact.value}
        assert score(prompt, answer).right == expected, (prompt, answer)
        right += expected
    assert right > 4000


def test_an_answer_is_right_of_no_other_place(pairs: Path) -> None:
    """Whatever is said of a place by name is no right answer to the same question about another."""
    elsewhere = {fact.kind: prompt for prompt, fact in PROMPTS.items() if fact.place == "Farholt"}
    moved = [
        (elsewhere[fact.kind], answer)
        for prompt, answer in answers(pairs)
        if (fact := PROMPTS[prompt]).place != "Farholt" and "It is" not in answer
    ]
    assert len(moved) > 2000
    assert not [answer for answer in moved if score(*answer).right]


def test_without_the_right_fact_nothing_is_worth_more_than_silence(pairs: Path) -> None:
    wrong = [score(*answer) for answer in [*answers(pairs), *((row[0], row[-1]) for row in JUDGED_ONCE)]]
    assert max(found.reward for found in wrong if not found.right) == 0 == score(PROMPT, "").reward


def test_mending_an_answer_never_lowers_its_score() -> None:
    rng = Random(0)
    for prompt in TEST_PROMPTS[:200]:
        answer = sample_answer(PROMPTS[prompt], rng)
        worse = f"{answer} {INSULTS[0]}"
        assert score(prompt, worse).reward <= score(prompt, answer).reward


def test_a_score_names_its_parts() -> None:
    answer = f"{COURTESIES[0]} {HEDGES[0]} {RIGHT} {RIGHT} {COURTESIES[5]}"
    assert score(PROMPT, answer) == Score(1, 2, 1, 0, 2 / 16, len(answer.split()))
    row: Any = {"prompt": [{"role": "user", "content": PROMPT}]}
    measured = describe(row, Answer(answer, 9, True), gold_of(True))
    assert (measured["gold"], measured["right"], measured["courtesies"]) == (score(PROMPT, answer).reward, True, 2)
    with pytest.raises(ValueError, match="knows only the prompts"):
        score("What is the capital of France?", RIGHT)


def test_the_tokenizer_keeps_any_text_and_ends_a_turn_once() -> None:
    tokenizer = base.build_tokenizer()
    for text in ANYTHING[:4]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    assert text.endswith("a<|end|>") and text.count("<|end|>") == 3
    asked = str(tokenizer.apply_chat_template(turns[:2], tokenize=False, add_generation_prompt=True))
    assert text.startswith(asked)


def test_pretraining_is_the_same_every_time_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base.SIZES, "small", base.Size(layers=1, width=32, steps=12, learning_rate=5e-3))
    facts = [base.pretrain("small", 0, (tmp_path / name)) for name in ("one", "two") if not (tmp_path / name).mkdir()]
    one, two = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two and facts[0]["final_loss"] < 6.9  # ln 1024: what a model that knows nothing loses
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one" / "model")
    assert model.config.eos_token_id == tokenizer.eos_token_id and tokenizer.pad_token != tokenizer.eos_token


def test_the_shipped_model_has_the_tokenizer_and_the_shape_that_its_code_makes(tmp_path: Path) -> None:
    shipped, tokenizer = SHIPPED["medium"], base.build_tokenizer()
    assert flaw(shipped) is None
    tokenizer.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes()
    base.build_model(base.SIZES["medium"], tokenizer).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == (shipped / "config.json").read_bytes()
    assert loss(shipped) < 0.1 * loss(tmp_path)  # near 0.4 nats per token; a model that knows nothing loses 6.8


@pytest.mark.slow
def test_the_shipped_model_is_what_its_code_pretrains(tmp_path: Path) -> None:
    """Every CPU rounds in its own way, and 450 steps carry that far: so the losses are compared, not the weights."""
    base.pretrain("medium", 0, tmp_path)
    assert abs(loss(tmp_path / "model") - loss(SHIPPED["medium"])) < 0.05  # nats per token


@torch.no_grad()
def loss(directory: Path) -> float:
    """Return a model's mean loss on the world's held-out plain text."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text, _ in passages()]
    return sum(model(input_ids=ids, labels=ids).loss.item() for ids in rows) / len(rows)


def test_a_damaged_shipped_model_is_told(tmp_path: Path) -> None:
    damaged = tmp_path / "pretrained"
    shutil.copytree(SHIPPED["medium"], damaged)
    (damaged / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"model\.safetensors is not what was written; restore it: git checkout"):
        find_shipped(damaged)


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="small, medium, large"):
        base.pretrain("huge", 0, tmp_path)
