"""DATASET= names anything: files of every kind are counted and estimated, a published split is held out."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from door import run
from models import FAMILIES, write_files

from launch.config.schema import Config
from launch.named import data
from launch.named.words import with_profiles
from launch.plan import main as plan
from recipes.data.files import files_of

Compose = Callable[..., Config]


def composed(compose: Compose, *words: object) -> Config:
    return compose(*with_profiles(str(word) for word in words))


def test_a_file_is_estimated_and_planned_at_once(pairs_file: Path, tmp_path: Path) -> None:
    """In the model's own tokens, here bytes; messages of a prompt have a turn's tokens around them."""
    directory = write_files(FAMILIES["gemma-3"], tmp_path / "model")
    words = [f"model={directory}", f"dataset={pairs_file}", "hardware=cpu", "pipeline=orpo"]
    printed = run([sys.executable, "-m", "launch.plan", *words])
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    mean = sum(len(row["chosen"][0]["content"]) + 1 for row in rows) / len(rows)
    assert f"about {len(rows)} pairs; columns prompt, chosen, rejected" in printed
    assert "61 pairs to train on (pairs, estimate; means: " in printed and f"{mean:.0f} and " in printed


def test_held_out_are_a_share_of_all_pairs_however_few_are_trained_on(
    pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 of 64: answered greedily and once at temperature 1, by three pipelines and the base model."""
    words = ["model=pocket-small", f"dataset={pairs_file}", "pipeline=compare", "judge=none", "eval_samples=1"]
    for rows, trained in (("8", 8), ("null", 48)):
        assert plan([*words, "dataset.test_fraction=0.25", f"dataset.train_rows={rows}"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"{trained} pairs to train on" in printed
        assert f"Evaluation: {16 * 2 * 4} responses of 4 models" in printed


@pytest.mark.parametrize(("word", "held"), [("batch_size=8", "5%"), ("experiment=harmless-short", "12%")])
def test_what_is_said_of_a_file_is_what_its_experiment_does(
    pairs_file: Path, word: str, held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_profiles([word, f"dataset={pairs_file}"])
    assert f"held out: {held} of the prompts" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".json", ".jsonl.gz"])
def test_any_kind_of_file_is_counted(compose: Compose, ending: str, tmp_path: Path) -> None:
    import pandas

    rows = pandas.DataFrame(
        {"prompt": ["a;b,c"] * 7, "chosen": ["yes\nyes"] * 7, "rejected": ["no"] * 7, "id": [*range(7)]}
    )
    path = tmp_path / f"own{ending}"
    if ending == ".csv":
        rows.to_csv(path, sep=";", index=False)
    elif ending == ".parquet":
        rows.to_parquet(path)
    else:
        rows.to_json(path, orient="records", lines="jsonl" in ending)
    dataset = composed(compose, f"dataset={path}").dataset
    assert (dataset.name, dataset.path, dataset.estimate.rows) == ("own", str(path), 7)


def test_a_folder_and_a_glob_are_their_files(compose: Compose, pairs_file: Path, tmp_path: Path) -> None:
    for number in range(3):
        shutil.copy(pairs_file, tmp_path / f"{number}.jsonl")
    for name, files in ((tmp_path, 3), (tmp_path / "[01].jsonl", 2)):
        dataset = composed(compose, f"dataset={name}").dataset
        assert dataset.path == str(name) and dataset.estimate.rows == 64 * files


@pytest.mark.parametrize(
    "train, test",
    [
        ("pairs_train.jsonl", "pairs_test.jsonl"),
        ("pairs.train.jsonl", "pairs.test.jsonl"),
        ("Train-00000-of-00001.jsonl", "Test.jsonl"),
        ("training.jsonl", "my-testing.jsonl"),
        ("contest.jsonl", "contest_test_2.jsonl"),
    ],
)
def test_the_split_at_a_names_end_is_held_out_and_what_is_not_read_is_named(
    compose: Compose, pairs_file: Path, tmp_path: Path, train: str, test: str
) -> None:
    shutil.copy(pairs_file, tmp_path / train)
    (tmp_path / test).write_text("".join(line for line in pairs_file.read_text().splitlines(keepends=True)[:4]))
    dataset = composed(compose, f"dataset={tmp_path}").dataset
    assert dataset.estimate.rows == 64 and dataset.test_split == "test"
    assert files_of(str(tmp_path), "test") == [tmp_path / test]
    asked = data.Asked(lambda text: 1.0, 2048, 0.1, "", "")
    shutil.copy(tmp_path / test, tmp_path / "valid.jsonl")
    (doubt,) = data.file_profile(str(tmp_path), asked).doubts
    assert doubt.startswith("not read: valid.jsonl")


def test_a_path_with_commas_is_one_source(compose: Compose, pairs_file: Path, tmp_path: Path) -> None:
    odd, other = tmp_path / "a,b [c].jsonl", tmp_path / "c.jsonl"
    for path in (odd, other):
        shutil.copy(pairs_file, path)
    dataset = composed(compose, f"dataset=[{odd},{other}]").dataset
    assert dataset.name == "mixture" and dataset.sources == [str(odd), str(other)]
    assert dataset.estimate.rows == 128, "of both"
    shared = composed(compose, f"dataset=[{odd},hh-rlhf]", "dataset.weights=[1,1]").dataset
    assert shared.sources == [str(odd), "hh-rlhf"] and shared.estimate.rows == 0, "how many rows, the shares decide"
    assert with_profiles([f"dataset={odd},{other},hh-rlhf"]) == ["dataset=a-b-c,c,hh-rlhf"], "a sweep of three"


def test_a_published_split_is_held_out(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a Hub data set, which the tests cannot ask: its splits and first rows are given here."""
    rows = [{"chosen": "aaaa" * 8, "rejected": "bbbb" * 2, "prompt": "cccc" * 3, "id": 1}] * 5
    monkeypatch.setattr(data, "commit_of", lambda path: "f" * 40)
    monkeypatch.setattr(data, "splits_of", lambda *of: {"train_sft": 9, "train_prefs": 700, "test_prefs": 20})
    monkeypatch.setattr(data, "first_rows", lambda *of: rows)
    found = composed(compose, "dataset=someone/Pairs:en").dataset
    assert (found.name, found.path, found.config, found.revision) == ("pairs-en", "someone/Pairs", "en", "f" * 40)
    assert (found.train_split, found.test_split) == ("train_prefs", "test_prefs")
    assert (found.estimate.rows, found.estimate.chosen, found.estimate.rejected) == (700, 9, 3)
