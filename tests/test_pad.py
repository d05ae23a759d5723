"""The token that a model without a profile is padded with is one that its tokenizer has and that training takes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from models import BASES, write_files
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from launch.config.schema import Config
from launch.named.words import with_profiles
from launch.stages.inputs import with_chat_template
from recipes.config import UserError
from recipes.data.chat import Renderer
from recipes.profiles import Model
from recipes.training.model import fit_to_tokenizer
from recipes.training.tokenizer import load_tokenizer

Compose = Callable[..., Config]
GPT_2 = replace(
    BASES["zephyr"], more={"vocab_size": 257, "bos_token_id": 256}
)  # EOS alone beside the bytes, and no row to spare
PYTHIA = replace(GPT_2, special=["<|endoftext|>", "<|padding|>"], more={"vocab_size": 258, "bos_token_id": 256})


def profile_of(compose: Compose, directory: Path, *words: str) -> Model:
    return with_chat_template(compose(*with_profiles([f"model={directory}", "dataset=pocket", *words]))).model


def test_a_model_with_eos_alone_is_padded_with_the_byte_that_no_text_has(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As GPT-2. The letter that spells it stays a letter, also in the saved tokenizer, where it is a special token."""
    directory = write_files(GPT_2, tmp_path / "model")
    model = profile_of(compose, directory)
    assert (model.pad_token, model.stop_tokens) == ("ÿ", ["<|endoftext|>"])
    said = " ".join(capsys.readouterr().err.split())
    assert "no pad token and no spare one: padded with ÿ, its byte 255, which no text contains" in said
    tokenizer = load_tokenizer(model, str(directory))
    tokenizer.save_pretrained(tmp_path / "saved")
    saved: Any = AutoTokenizer.from_pretrained(tmp_path / "saved")
    before, after = (Renderer(one, model) for one in (tokenizer, saved))
    asked = [{"role": "user", "content": "Où est L'Haÿ-les-Roses? ÿÿ 🦦"}]
    (ids,), (again,) = (render.encode([render.text(asked)]) for render in (before, after))
    assert ids == again and tokenizer.pad_token_id == saved.pad_token_id and saved.pad_token_id not in ids
    assert tokenizer.decode(ids).count("ÿ") == 3
    weights = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    fitted: Any = fit_to_tokenizer(weights, model, tokenizer).get_input_embeddings()
    assert fitted.num_embeddings == len(tokenizer) == len(saved) == 257, "nothing is added"


def test_phi_2_is_padded_alike(compose: Compose) -> None:
    assert compose("model=phi-2").model.pad_token == "ÿ"


def test_padding_is_a_pad_token(compose: Compose, tmp_path: Path) -> None:
    directory = write_files(PYTHIA, tmp_path / "model")
    model = profile_of(compose, directory)
    assert model.pad_token == "<|padding|>" == load_tokenizer(model, str(directory)).pad_token


@pytest.mark.parametrize("own", [None, "<|endoftext|>"])
def test_what_cannot_be_padded_says_what_to_do_before_anything_trains(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str], own: str | None
) -> None:
    directory = write_files(GPT_2, tmp_path / "model")
    values = json.loads((directory / "tokenizer.json").read_text())
    values["model"]["vocab"]["a rare word"] = values["model"]["vocab"].pop("ÿ")
    (directory / "tokenizer.json").write_text(json.dumps(values))
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": own}))
    model = profile_of(compose, directory)
    said = " ".join(capsys.readouterr().err.split())
    assert model.pad_token is None and "no spare one: add model.pad_token='<token>', one that ends nothing" in said
    with pytest.raises(UserError, match=r"has no pad token besides those that end a response: set model\.pad_token"):
        load_tokenizer(model, str(directory))
    model = profile_of(compose, directory, "model.pad_token=a\\ rare\\ word")
    assert load_tokenizer(model, str(directory)).pad_token == "a rare word"
