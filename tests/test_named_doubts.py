"""MODEL= names a directory of which something does not fit: it is said before anything trains."""

import json
from pathlib import Path

import pytest
from models import FAMILIES, write_files

from launch.named import profile as profiles
from launch.named.files import read_files
from launch.named.model import model_profile
from recipes.config import UserError


def test_a_tokenizer_with_more_tokens_than_the_model_is_told(tmp_path: Path) -> None:
    directory = write_files(FAMILIES[next(iter(FAMILIES))], tmp_path / "Own")
    config = json.loads((directory / "config.json").read_text())
    told = []
    for rows in (config["vocab_size"], 100):
        (directory / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
        doubts = model_profile(read_files(str(directory), "main")).doubts
        told.append([doubt for doubt in doubts if "the model 100 embeddings: do they belong together?" in doubt])
    assert [*map(len, told)] == [0, 1]


def test_a_model_without_its_tokenizers_files_is_told(tmp_path: Path) -> None:
    """Transformers would make an empty tokenizer, and every response the same nothing."""
    directory = write_files(FAMILIES["qwen3"], tmp_path / "Own")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"has no tokenizer\.json, nor an older tokenizer's files"):
        read_files(str(directory), "main")


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "true", "null", "1e5", "2024"])
def test_a_name_that_hydra_would_not_read_as_text_gets_a_word_before_it(text: str) -> None:
    assert profiles.plain_name(text) == f"own-{text.lower()}"
