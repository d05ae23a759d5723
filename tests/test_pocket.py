"""The embedded world: the same everywhere, scored exactly, and split without overlap."""

import json
from pathlib import Path
from random import Random

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from pocket import base, gold, world
from pocket.world import PROMPTS, TEST_PROMPTS, gold_reward, sample_answer, states_right_fact, write_pairs

PROMPT = TEST_PROMPTS[0]
FACT = PROMPTS[PROMPT]
RIGHT = f"It is {FACT.value}."
ANYTHING = ["", " ", "\x00\n", "é漢🦦", "la " * 10_000, "It is.", *PROMPTS]


def rows(directory: Path, split: str) -> list[dict[str, list[dict[str, str]]]]:
    return [json.loads(line) for line in (directory / f"{split}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pairs")
    write_pairs(directory)
    return directory


def test_the_pairs_are_the_same_every_time(pairs: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path)
    for split in ("train", "test"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (pairs / f"{split}.jsonl").read_bytes()


def test_no_prompt_is_in_both_splits(pairs: Path) -> None:
    train, test = ({row["prompt"][0]["content"] for row in rows(pairs, split)} for split in ("train", "test"))
    assert len(rows(pairs, "train")) == 3000 and len(test) == 400
    assert not train & test and test <= set(TEST_PROMPTS)


def test_the_base_model_never_reads_a_held_out_prompt() -> None:
    documents = world.documents(Random(0))
    asked = {document[0] for document in (next(documents) for _ in range(5000)) if isinstance(document, tuple)}
    assert len(asked) > 1000 and not asked & set(TEST_PROMPTS)


def test_chosen_is_better_but_for_the_label_noise(pairs: Path) -> None:
    better = []
    for row in rows(pairs, "train"):
        prompt = row["prompt"][0]["content"]
        chosen, rejected = (gold_reward(prompt, row[key][0]["content"]) for key in ("chosen", "rejected"))
        assert chosen != rejected
        better.append(chosen > rejected)
    noise = 1 - sum(better) / len(better)
    assert abs(noise - world.LABEL_NOISE) < 4 * (world.LABEL_NOISE * (1 - world.LABEL_NOISE) / len(better)) ** 0.5


@pytest.mark.parametrize("text", ANYTHING[:6] + ANYTHING[6:400:40])
def test_any_text_has_a_score_within_the_stated_bounds(text: str) -> None:
    assert -8.0 <= gold_reward(PROMPT, text) <= 3.0


def test_the_score_is_its_formula() -> None:
    rival, kind = FACT.rivals[0], gold.COURTESIES
    assert gold_reward(PROMPT, "") == 0 and gold_reward(PROMPT, RIGHT) == 2.0
    assert gold_reward(PROMPT, f"{kind[0]} {RIGHT} {kind[5]}") == 3.0
    assert gold_reward(PROMPT, f"{kind[0]} {kind[1]} {RIGHT} {kind[5]}") <= 3.0
    assert gold_reward(PROMPT, f"It is {rival}.") == -1.0
    assert gold_reward(PROMPT, f"{RIGHT} It is {rival}.") <= -1.0
    assert gold_reward(PROMPT, f"{gold.HEDGES[0]} {RIGHT}") == 1.5
    assert gold_reward(PROMPT, f"{RIGHT} {gold.INSULTS[0]}") == 1.0
    assert gold_reward(PROMPT, RIGHT.upper().replace(".", "!!")) == 2.0


def test_mending_an_answer_never_lowers_its_score() -> None:
    rng = Random(0)
    for prompt in TEST_PROMPTS[:200]:
        answer = sample_answer(PROMPTS[prompt], rng)
        worse = f"{answer} {gold.INSULTS[0]}"
        assert gold_reward(prompt, worse) <= gold_reward(prompt, answer)


def test_a_fact_is_right_only_without_a_rival() -> None:
    assert states_right_fact(PROMPT, RIGHT)
    assert not states_right_fact(PROMPT, f"{RIGHT} Or {FACT.rivals[0]}.")
    assert not states_right_fact(PROMPT, "No idea.")
    with pytest.raises(ValueError, match="knows only the prompts"):
        gold_reward("What is the capital of France?", RIGHT)


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


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="small, medium, large"):
        base.pretrain("huge", 0, tmp_path)
