"""Mixtures and streams through the user's door: the rows of each source, once, the same under the same seed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from datasets import load_from_disk
from door import launch, record, short, stages

Words = Callable[..., list[str]]


def write(path: Path, name: str, count: int) -> Path:
    rows = [{"prompt": f"{name} {n}?", "chosen": f"Yes, {name} {n}.", "rejected": "No."} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mixed(words: Words, runs: Path, one: Path, two: Path, *more: str) -> Path:
    options = [word for word in words(runs, "pipeline=sft", *short("sft", steps=1)) if "dataset" not in word]
    launch(*options, f"dataset=[{one},{two}]", "dataset.test_fraction=0.2", *more)
    (directory,) = stages(runs)
    return directory


def pairs_of(directory: Path) -> list[tuple[str, int]]:
    path = yaml.safe_load((directory / "config.yaml").read_text())["pairs"]
    rows: Any = load_from_disk(path)["train"]
    return list(zip(rows["source"], rows["row"], strict=True))


def test_a_mixture_has_its_shares_and_repeats_no_row(words: Words, tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.jsonl", "one", 60), write(tmp_path / "two.jsonl", "two", 40)
    same = [mixed(words, tmp_path / name, one, two, "dataset.weights=[1,3]") for name in ("a", "b")]
    found = pairs_of(same[0])
    assert found == pairs_of(same[1]) and len(set(found)) == len(found)
    data = record(same[0])["data"]
    taken = {
        name: sum(data["sources"][split].get(name, 0) for split in ("train", "test"))
        for name in ("one.jsonl", "two.jsonl")
    }
    assert taken == {"one.jsonl": 13, "two.jsonl": 40}  # 40 is a share of 3; a third of it is 13.3
    other = mixed(words, tmp_path / "c", one, two, "dataset.weights=[1,3]", "dataset.seed=1")
    assert set(pairs_of(other)) != set(found)


def test_a_stream_is_read_to_where_it_is_asked_for(words: Words, tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl", "one", 60)
    options = words(
        tmp_path / "runs", "pipeline=sft", *short("sft", steps=1), f"dataset.path={path}", "dataset.streaming=true"
    )
    assert "dataset.streaming=true needs dataset.train_rows" in launch(*options, status=2)
    launch(*options, "dataset.train_rows=30")
    (directory,) = stages(tmp_path / "runs")
    assert sum(record(directory)["data"]["pairs"].values()) == 30


def test_what_is_wrong_with_a_mixture_is_one_line(words: Words, tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", "one", 60)
    options = [word for word in words(tmp_path / "runs", "pipeline=sft") if "dataset" not in word]
    assert "neither a file nor a profile" in launch(*options, f"dataset=[{one},ultrafedback]", status=2)
    assert "weights has 1 values for 2 sources" in launch(
        *options, f"dataset=[{one},{one}]", "dataset.weights=[1]", status=2
    )
    assert "asks for 900 rows" in launch(*options, f"dataset=[{one},{one}]", "dataset.counts=[900,1]", status=2)
