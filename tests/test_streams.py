"""Mixtures and streams through the user's door: the rows of each source, once, the same under the same seed."""

from collections.abc import Callable
from pathlib import Path

from door import launch, record, short, stages
from jsonl import write_rows

Words = Callable[..., list[str]]


def write(path: Path, name: str, count: int) -> Path:
    rows = [{"prompt": f"{name} {n}?", "chosen": f"Yes, {name} {n}.", "rejected": "No."} for n in range(count)]
    return write_rows(path, rows)


def test_a_mixture_is_trained_on_and_recorded_by_source(words: Words, tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.jsonl", "one", 60), write(tmp_path / "two.jsonl", "two", 40)
    options = [
        word for word in words(tmp_path / "runs", "pipeline=sft", *short("sft", steps=1)) if "dataset" not in word
    ]
    launch(*options, f"dataset=[{one},{two}]", "dataset.test_fraction=0.2", "dataset.weights=[1,3]")
    (directory,) = stages(tmp_path / "runs")
    found = record(directory)["data"]["sources"]
    names = ("one.jsonl", "two.jsonl")
    taken = {name: sum(found[split].get(name, 0) for split in ("train", "test")) for name in names}
    assert taken == {"one.jsonl": 13, "two.jsonl": 40}  # 40 is a share of 3; a third of it is 13.3


def test_a_stream_is_read_to_where_it_is_asked_for(words: Words, tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl", "one", 60)
    options = words(
        tmp_path / "runs", "pipeline=sft", *short("sft", steps=1), f"dataset.path={path}", "dataset.streaming=true"
    )
    assert "dataset.streaming=true needs dataset.train_rows" in launch(*options, status=2)
    launch(*options, "dataset.train_rows=30")
    (directory,) = stages(tmp_path / "runs")
    assert sum(record(directory)["data"]["pairs"].values()) == 30


def test_a_source_that_is_not_there_is_one_line(words: Words, tmp_path: Path) -> None:
    options = [word for word in words(tmp_path / "runs", "pipeline=sft") if "dataset" not in word]
    assert "is neither a file" in launch(*options, "dataset=[hh-rlhf,ultrafedback]", status=2)
