"""A tiny model, its tokenizer and a file of pairs, made here: the tests download nothing."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from cells import Make, maker
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from warm import begin_imports

from launch.config.schema import Config, register, resolve
from recipes.config import FORMAT, write_config, write_json

torch.set_num_threads(1)  # as tests/door.py says
# `make test ARGS=…` hands its own words to every `make` that a test types.
for name in ("MAKEFLAGS", "MAKEOVERRIDES", "ARGS"):
    os.environ.pop(name, None)

ROOT = Path(__file__).parent.parent
PLACES = [f"{first}{last}" for first in ("Ash", "Birch", "Clay", "Dale") for last in ("ford", "ham", "wick", "by")]
QUESTIONS = ("Where is {}?", "What is {} known for?", "Who lives in {}?", "How old is {}, would you say?")


# The files that take longest, in the order in which the workers take them; one at the end would keep a worker waiting.
LONGEST = (
    "compatibility",
    "paper",
    "launch",
    "slurm",
    "faults",
    "local",
    "pocket",
    "resume",
    "equal",
    "gpu",
    "rlhf",
)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin with the imports in each of several workers, before a benchmark starts such a process for itself."""
    if hasattr(session.config, "workerinput"):
        begin_imports()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def compose() -> Callable[..., Config]:
    """Compose a configuration as the launcher does."""
    register()

    def make(*overrides: str) -> Config:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return resolve(hydra_compose("config", list(overrides)))

    return make


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 pairs with distinct prompts and answers of varied length."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    with path.open("w") as file:
        for number, (place, question) in enumerate((place, question) for place in PLACES for question in QUESTIONS):
            chosen = f"{place} lies by the river." + " It is old and quiet." * (number % 5)
            rejected = "No idea." + " Ask somebody else." * (number % 3)
            row = {
                "prompt": [{"role": "user", "content": question.format(place)}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
            }
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, pairs_file: Path) -> Path:
    """A random 2-layer Llama whose ChatML turns end in `<|im_end|>` and a newline, as Qwen's do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(pairs_file)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>")
    fast.chat_template = (ROOT / "conf" / "chat_template" / "chatml.jinja").read_text()
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(fast)}
    path = tmp_path_factory.mktemp("tiny") / "model"
    LlamaForCausalLM(LlamaConfig(**shape, **heads, eos_token_id=2, pad_token_id=0, bos_token_id=None)).save_pretrained(
        path
    )
    fast.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def words(tiny_model: Path, pairs_file: Path) -> Callable[..., list[str]]:
    """The options of a short training of the tiny model; the given ones are added."""

    def make(runs: Path, *more: str) -> list[str]:
        return [
            *(f"runs={runs}", "hardware=cpu", "hardware.per_device_batch=4", "batch_size=4", "model=qwen2.5-0.5b"),
            *(
                f"model.model_name_or_path={tiny_model}",
                "model.stop_tokens=['<|im_end|>']",
                "model.pad_token='<|pad|>'",
            ),
            *("dataset=file", f"dataset.path={pairs_file}", "dataset.max_new_tokens=8"),
            *([] if any(word.startswith("dataset.test_path=") for word in more) else ["dataset.test_fraction=0.2"]),
            *more,
        ]

    return make


@pytest.fixture(scope="module")
def make(
    words: Callable[..., list[str]], compose: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """Write the directory of a stage that would train the tiny model as a cell of the table says."""
    return maker(words, compose, tmp_path_factory.mktemp("cells"))


@pytest.fixture
def untuned(tiny_model: Path, tmp_path: Path) -> Path:
    """The stage directory of the tiny model as it is, as the launcher writes one for every base model."""
    directory = tmp_path / "base-tiny"
    directory.mkdir()
    profile = {"name": "tiny", "model_name_or_path": str(tiny_model), "stop_tokens": ["<|im_end|>"]}
    values = {"stage": "base", "start": str(tiny_model), "start_revision": None}
    write_config(directory, {"format": FORMAT, **values, "model": profile | {"pad_token": "<|pad|>"}})
    write_json(directory / "record.json", {"stage": "base"})
    return directory


@pytest.fixture
def keep() -> Callable[[str, str, float], None]:
    """Keep a method's figure for docs/parity.md, in the file that PARITY names; several workers append to it."""

    def append(method: str, what: str, figure: float) -> None:
        if path := os.environ.get("PARITY"):
            with Path(path).open("a") as file:
                file.write(json.dumps([method, what, figure]) + "\n")

    return append


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Put back what a test's command wrote into the environment: the next test of this worker would read it."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def closed_endpoints() -> Iterator[None]:
    """Close what a test opened: warnings are errors, and an open socket's would come in some later test."""
    yield
    endpoint = sys.modules.get("eval.answers.endpoint")
    if endpoint is not None:
        endpoint.close()
