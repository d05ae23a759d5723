"""Talking to a model; and whether a converted model is the run's, by its log-probs."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval import chat
from eval.answers.dialogues import Speaker, own_stops
from eval.answers.generate import answer
from eval.answers.store import Sampling
from eval.commands.cli import run as suite
from eval.commands.rounding import MOST, farthest
from recipes.config import UserError


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_rounded_weights_are_told_from_others(tiny_model: Path, kind: str) -> None:
    """A model of peaked distributions: rounded it stays near itself, with a few tokens exchanged it does not."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    tokenizer, prompt = AutoTokenizer.from_pretrained(tiny_model), [20, 21, 22]
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[kind]
    rounded, exchanged = copy.deepcopy(model).to(dtype).float(), copy.deepcopy(model)
    with torch.no_grad():
        exchanged.lm_head.weight.copy_(model.lm_head.weight.flip(0))
    near = farthest(model, tokenizer, kind, [(prompt, generated(rounded, prompt))])
    assert 0 < near < MOST[kind]
    assert farthest(model, tokenizer, "f32", [(prompt, generated(model, prompt))]) < 1e-4
    with pytest.raises(UserError, match=rf"nats from the run's, and rounding to {kind} explains .* after '"):
        farthest(model, tokenizer, kind, [(prompt, generated(exchanged, prompt))])


def generated(model: Any, prompt: list[int]) -> dict[str, Any]:
    """What a model generates greedily, with its log-probs of it."""
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=8, min_new_tokens=8, do_sample=False)
    with torch.no_grad():
        found = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    said = ids[0, len(prompt) :]
    return {"ids": said.tolist(), "log_probs": found.gather(1, said[:, None])[:, 0].tolist()}


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        (SimpleNamespace(eos_token_id=2), ["<|im_end|>"]),
        (SimpleNamespace(eos_token_id=[2, 0]), ["<|im_end|>", "<|pad|>"]),
        (SimpleNamespace(eos_token_id=0), ["<|pad|>"]),  # the first of all tokens is one, too
        (SimpleNamespace(eos_token_id=None), []),
        (None, []),
    ],
)
def test_a_models_own_settings_say_at_which_tokens_it_stops(tiny_model: Path, settings: Any, stops: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert own_stops(SimpleNamespace(generation_config=settings), tokenizer) == stops


@pytest.mark.parametrize(("ends", "stops"), [([2, 1], [2, 1]), (1, [1]), (None, [2])])
def test_a_directory_is_spoken_to_until_its_own_stop_tokens(
    tiny_model: Path, tmp_path: Path, ends: Any, stops: list[int]
) -> None:
    """One that names none stops at its tokenizer's EOS."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for name in ("config.json", "generation_config.json"):
        (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | {"eos_token_id": ends}))
    assert Speaker.load(model).stops == stops


def test_one_talks_to_a_model(
    untuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reply is that of an evaluation; a new conversation knows nothing of the one before."""
    typed = iter(["Where is it?", "Where is it?", " ", "/new", "Where is it?"])

    def read(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    dialogue = [{"role": "user", "content": "Where is it?"}]
    ((said,),) = answer(untuned, [dialogue], Sampling(6, 0.0), lambda count: None)
    assert suite([str(untuned), "temperature=0", "max_new_tokens=6"], chat.__doc__, chat.Options, chat.main) == 0
    printed = capsys.readouterr().out
    reply = f"{said.text}{'' if said.stopped else ' … (truncated: raise max_new_tokens)'}\n"
    first, *_ = printed.splitlines(keepends=True)
    assert "Ctrl-D ends" in first and printed.startswith(first + reply) and printed.removesuffix("\n").endswith(reply)
    assert suite([str(untuned / "nowhere")], chat.__doc__, chat.Options, chat.main) == 2
