"""A mixture's shares are exact, its rows the same under its seed, and its held-out prompts those of all sources."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonl import write_rows

from launch.config.schema import Config
from launch.stages.pairs import sources
from recipes.config import UserError
from recipes.data.filter import rule
from recipes.data.mixture import check_shares, choose, sizes
from recipes.data.prepare import divide, prepare
from recipes.data.tokenize import examine
from recipes.profiles import Dataset, Model
from recipes.training.tokenizer import load_tokenizer


def write(path: Path, count: int, answer: str = "Yes.") -> Path:
    rows = [{"prompt": f"Question {number}?", "chosen": answer, "rejected": f"No {number}."} for number in range(count)]
    return write_rows(path, rows)


def mixture(**options: Any) -> Dataset:
    return Dataset("mixture", "mixture", sources=["a", "b"], **options)


SOURCES = ["a"] * 60 + ["b"] * 30


def test_a_mixtures_shares_are_exact_and_repeat_no_row() -> None:
    for options, expected in (
        ({}, {"a": 60, "b": 30}),
        ({"weights": [1, 1]}, {"a": 30, "b": 30}),
        ({"weights": [3, 1]}, {"a": 60, "b": 20}),
        ({"weights": [0.3, 0.1]}, {"a": 60, "b": 20}),
        ({"counts": [7, 30]}, {"a": 7, "b": 30}),
    ):
        chosen = choose(SOURCES, ["a", "b"], mixture(**options))
        assert Counter(SOURCES[index] for index in chosen) == expected
        assert len(set(chosen)) == len(chosen)
    assert sizes([9, 0], mixture(weights=[1, 1])) == [0, 0]


def test_a_mixture_is_the_same_under_its_seed() -> None:
    first, again, other = (choose(SOURCES, ["a", "b"], mixture(counts=[20, 20], seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert [SOURCES[index] for index in first] != sorted(SOURCES[index] for index in first)  # mixed, not in blocks


@pytest.mark.parametrize(
    "options, said",
    [
        ({"weights": [1]}, "has 1 values for 2 sources"),
        ({"counts": [1, 2, 3]}, "has 3 values for 2 sources"),
        ({"weights": [1, -1]}, "above 0"),
        ({"weights": [1, 1], "counts": [1, 1]}, "exclude each other"),
    ],
)
def test_shares_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_shares(mixture(**options))


def test_more_rows_than_there_are_is_said() -> None:
    with pytest.raises(UserError, match="40 rows of b, which has 30"):
        choose(SOURCES, ["a", "b"], mixture(counts=[1, 40]))


def test_two_sources_of_one_name_are_refused(compose: Callable[..., Config], tmp_path: Path) -> None:
    """Their rows could not be told apart: each would be taken from both, twice."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "pairs.jsonl", 4)
    files = f"[{tmp_path}/one/pairs.jsonl,{tmp_path}/two/pairs.jsonl]"
    with pytest.raises(UserError, match=r"two sources named pairs\.jsonl"):
        sources(compose("model=qwen2.5-0.5b", "dataset=mixture", f"dataset.sources={files}").dataset)


def test_a_mixture_holds_out_prompts_over_all_sources(tiny_model: Path, tmp_path: Path) -> None:
    model = Model("tiny", str(tiny_model), stop_tokens=["<|im_end|>"], pad_token="<|pad|>")
    parts = []
    for name, answer in (("a", "Yes."), ("b", "Surely.")):  # the same prompts in both
        parts.append(Dataset(name, str(write(tmp_path / f"{name}.jsonl", 60, answer))))
    dataset = mixture(test_fraction=0.3)
    tokenizer = load_tokenizer(model, model.model_name_or_path)
    rulings = rule(examine(dataset, parts, model, tokenizer, lambda _: None), dataset)
    split = divide(rulings, dataset, parts)
    keys = {name: set(rows["key"]) for name, rows in split.items()}
    assert not keys["train"] & keys["test"] and len(keys["train"] | keys["test"]) == 60
    assert all(Counter(rows["source"]) == {"a": len(rows) / 2, "b": len(rows) / 2} for rows in split.values())
    prepare(dataset, model, tokenizer, tmp_path / "out", lambda _: None, parts)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sources"]["train"] == dict(Counter(split["train"]["source"]))
