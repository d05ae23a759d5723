"""Likelihoods are those of one row at a time, of any file's pairs, by category, and against a reference."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from door import run
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval import likelihood
from eval.answers import log_probs as scoring
from eval.answers.batching import by_length
from eval.answers.log_probs import mean_log_probs
from eval.commands.cli import read_words
from eval.results.likelihood import scorable
from recipes.config import FORMAT, UserError, write_config, write_json

PAIRS = [{"prompt_ids": list(range(10, 10 + size)), "chosen_ids": [7, 8, 9][: 1 + size % 3]} for size in range(1, 13)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_mean_log_probs_are_those_of_each_row_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TOKENS", 40)  # several batches, each padded
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
    monkeypatch.setattr(scoring, "LOGITS", 4 * model.config.vocab_size * 40)
    hook = model.lm_head.register_forward_hook(lambda module, given, logits: shapes.append(logits.shape))
    assert mean_log_probs(model, Dataset.from_list(PAIRS), "chosen_ids", pad=0) == pytest.approx(expected, abs=1e-5)
    mean_log_probs(model, Dataset.from_list(PAIRS[-2:-1]), "chosen_ids", pad=0)
    hook.remove()
    assert sum(rows for rows, *_ in shapes[:-1]) == len(PAIRS)
    assert all(rows * width <= 40 for rows, width, _ in shapes)
    assert shapes[-1][:2] == (1, len(PAIRS[-2]["chosen_ids"]))


def test_batches_hold_everything_once_within_the_budget() -> None:
    lengths = [5, 1, 9, 30, 2]
    batches = list(by_length(lengths, 12))
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3, 4]
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 12 for batch in batches)


PLACES = [("Ashford", "hard"), ("Dalewick", "chat"), ("Clayby", "hard")]
ROWS = [
    {"prompt": f"Where is {place}?", "chosen": f"{place}, by the river.", "rejected": "No. " * size, "subset": subset}
    for size, (place, subset) in enumerate(PLACES, start=1)
]


def total_log_prob(model: Any, tokenizer: Any, row: dict[str, str], side: str) -> tuple[float, int]:
    """The sum over an answer's tokens and its stop, by the library's own template, and their number."""
    prompt: Any = [{"role": "user", "content": row["prompt"]}]
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    answer = tokenizer(row[side] + "<|im_end|>")["input_ids"]
    log_probs = model(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1).detach()
    each = [log_probs[len(ids) - 1 + place, token] for place, token in enumerate(answer)]
    return float(torch.stack(each).sum()), len(answer)


def dpo_stage(untuned: Path, tiny_model: Path) -> Path:
    """A DPO stage whose weights differ from those of its start."""
    directory = untuned.with_name("dpo-tiny")
    shutil.copytree(tiny_model, directory / "model")
    policy = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(1)
    with torch.no_grad():
        policy.lm_head.weight.add_(0.05 * torch.randn_like(policy.lm_head.weight))
    policy.save_pretrained(directory / "model")
    profile = {"name": "tiny", "model_name_or_path": "tiny", "stop_tokens": ["<|im_end|>"]}
    values = {"stage": "dpo", "start": str(tiny_model), "start_revision": None, "options": {"beta": 0.5}}
    write_config(directory, {"format": FORMAT, **values, "model": profile})
    write_json(directory / "record.json", {"stage": "dpo"})
    return directory


def test_any_file_by_category_and_dpos_own_reward(
    untuned: Path, tiny_model: Path, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = untuned.with_name("pairs.jsonl")
    useless = {"prompt": "?", "chosen": "same", "rejected": "same", "subset": "chat"}
    file.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, useless]))
    tuned = dpo_stage(untuned, tiny_model)
    words = [sys.executable, "-m", "eval.likelihood", str(untuned), str(tuned), f"pairs={file}", "reference=true"]
    printed = run(words)
    assert "1 of 4 pairs left out (identical)" in printed
    policy, tokenizer = AutoModelForCausalLM.from_pretrained(tuned / "model"), AutoTokenizer.from_pretrained(tiny_model)
    right: dict[str, list[bool]] = {"hard": [], "chat": []}
    for directory, scorer in ((untuned, model), (tuned, policy)):
        (result,) = (directory / "eval").glob("likelihood-*.json")
        found = json.loads(result.read_text())
        assert found["category"] == ["hard", "chat", "hard"]
        assert ("reward" in found) == (directory == tuned), "without a reference there is no such reward"
        for place, row in enumerate(ROWS):
            sums = {side: total_log_prob(scorer, tokenizer, row, side) for side in ("chosen", "rejected")}
            for side, (total, count) in sums.items():
                assert found[side][place] == pytest.approx(total / count, abs=1e-5)
            if directory == tuned:
                start = {side: total_log_prob(model, tokenizer, row, side)[0] for side in sums}
                margin = sums["chosen"][0] - start["chosen"] - sums["rejected"][0] + start["rejected"]
                assert found["reward"][place] == pytest.approx(0.5 * margin, abs=1e-4)
                right[row["subset"]].append(found["chosen"][place] > found["rejected"][place])
    for name, ranked in right.items():
        (line,) = (line for line in printed.splitlines() if f" {name} ({len(ranked)})" in line)
        assert float(re.split(r"[│|]", line)[-2]) == pytest.approx(sum(ranked) / len(ranked), abs=5e-4)
    capsys.readouterr()
    likelihood.main(*read_words(words[3:], likelihood.Options))
    assert capsys.readouterr().out.count("its own margin") == 1, "from the files"


def test_labelled_single_responses_make_pairs_of_their_category(untuned: Path) -> None:
    file = untuned.with_name("labelled.jsonl")
    rows = [
        {"prompt": prompt, "completion": f"{word}.", "label": good, "subset": prompt}
        for good, word in ((True, "Yes"), (False, "No"))
        for prompt in ("first?", "second?")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert scorable(untuned, file)["category"] == ["first?", "second?"]


def test_what_the_suite_cannot_read_is_said(untuned: Path) -> None:
    for words, said in {
        (str(untuned),): "has no held-out pairs",
        (str(untuned), "pair=x"): "pair: no such option; choose from pairs, reference",
        (str(untuned), "reference=perhaps"): "reference: Value 'perhaps'",
        (str(untuned.parent), "pairs=x"): "no session",
        (str(untuned), "pairs=none.jsonl"): "none.jsonl does not exist",
    }.items():
        with pytest.raises(UserError, match=said) as error:
            likelihood.main(*read_words(list(words), likelihood.Options))
        assert "\n" not in str(error.value)
