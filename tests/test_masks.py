"""For every shipped chat template: the same ids in all three methods, and which of them each method's loss covers.

SFT trains the chosen answer; DPO compares the answers; ORPO compares the answers and trains the chosen dialogue
(`nll_span=full`) or answer (`completion`). Read off what TRL's own collators, and ours, hand to the model.
"""

from typing import Any

import pytest
import torch
from kinds import PHI, STOPS, TEMPLATES, build, phi_3
from samples import real
from trl.trainer.dpo_trainer import DataCollatorForPreference

from recipes.data.chat import Renderer
from recipes.data.pairs import demonstration, dialogues
from recipes.data.tokenize import Tokenise
from recipes.engine.packing import collate, pack
from recipes.profiles import Dataset, Model

SHIPPED = ["chatml", "llama-3", "zephyr", "pocket", "ours", pytest.param("real", marks=real(PHI))]  # the last: of Phi-3
TURNS = [
    {"role": "user", "content": "What is the river of Arvendal?"},
    {"role": "assistant", "content": "It is Cress."},
    {"role": "user", "content": "Are you sure? <|end|></s><|im_end|><|eot_id|>"},
]


@pytest.fixture(params=SHIPPED)
def row(request: Any) -> dict[str, Any]:
    name = request.param
    phi = name in ("ours", "real")
    tokenizer = phi_3(name) if phi else build("byte-level")
    stops = ["<|end|>", "<|endoftext|>"] if phi else [STOPS.get(name, "</s>")]
    if not phi:
        tokenizer.chat_template = TEMPLATES[name]
    columns = {"prompt": [TURNS], "chosen": ["Yes, quite sure."], "rejected": ["No."], "problem": [""], "detail": [""]}
    render = Renderer(tokenizer, Model(name, name, stop_tokens=stops))
    made = Tokenise(render, Dataset("x", "x"))(columns)
    return {key: values[0] for key, values in made.items()} | {"stop": render.stops[0], "bos": tokenizer.bos_token_id}


def test_a_dialogue_has_at_most_one_bos_and_its_answer_one_stop_at_the_end(row: dict[str, Any]) -> None:
    for answer in (row["chosen_ids"], row["rejected_ids"]):
        assert row["bos"] not in (row["prompt_ids"] + answer)[1:]
        assert answer[-1] == row["stop"] and answer.count(row["stop"]) == 1


def test_sft_trains_the_chosen_answer(row: dict[str, Any]) -> None:
    """TRL makes labels of the mask when it builds its trainer: see tests/test_trainers.py."""
    view = demonstration(row)
    assert view["input_ids"] == row["prompt_ids"] + row["chosen_ids"]
    trained = [token for token, counts in zip(view["input_ids"], view["completion_mask"], strict=True) if counts]
    assert trained == row["chosen_ids"]


def test_dpo_compares_the_answers(row: dict[str, Any]) -> None:
    batch = DataCollatorForPreference(pad_token_id=0)([row])
    for ids, mask, seen, answer in zip(
        batch["input_ids"],
        batch["completion_mask"],
        batch["attention_mask"],
        ("chosen_ids", "rejected_ids"),
        strict=True,
    ):
        assert ids[seen.bool()].tolist() == row["prompt_ids"] + row[answer]
        assert ids[mask.bool()].tolist() == row[answer]


def test_stock_orpo_compares_the_answers_and_trains_the_dialogue(row: dict[str, Any]) -> None:
    columns = dialogues(row)
    for answer in ("chosen", "rejected"):
        assert columns[f"{answer}_input_ids"] == row["prompt_ids"] + row[f"{answer}_ids"]
        assert columns[f"{answer}_labels"] == [-100] * len(row["prompt_ids"]) + row[f"{answer}_ids"]


@pytest.mark.parametrize("span", ["full", "completion"])
def test_packed_orpo_compares_the_answers_and_trains_its_span(row: dict[str, Any], span: str) -> None:
    batch = pack(collate([row])["pairs"], span)
    assert batch.targets is not None
    prompt, chosen, rejected = torch.split(batch.targets, batch.counts[:, 0].tolist())
    assert chosen.tolist() == row["chosen_ids"] and rejected.tolist() == row["rejected_ids"]
    # the first token of a dialogue is predicted by nothing
    assert prompt.tolist() == (row["prompt_ids"][1:] if span == "full" else [])
    ids, places = batch.input_ids[0], batch.scored
    before = ids[places].tolist()  # what each scored token is predicted from
    assert before[len(prompt)] == before[len(prompt) + len(chosen)] == row["prompt_ids"][-1]
