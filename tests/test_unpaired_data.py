"""Responses without a partner, from the file to the table: who trains on them, who is refused, what is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PLACES, QUESTIONS
from datasets import load_from_disk
from door import launch, look
from jsonl import write_rows

from launch.config.schema import Config
from launch.executors.prepare import prepare as prepare_job
from launch.forecast.cost import flops, work
from launch.forecast.tokens import counted
from launch.stages.unpaired import unbalanced
from recipes.config import UserError, read_json
from recipes.data.pairs import load_pairs
from recipes.data.prepare import prepare
from recipes.data.unpaired import unpaired
from recipes.methods import METHODS
from recipes.profiles import Dataset, Model, Policies
from recipes.training.tokenizer import load_tokenizer

Words = Callable[..., list[str]]
KEEP = "dataset.policies.alone=keep"
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
GOOD, BAD = "{} lies by the river.", "No idea of {}."
SPLITS = ("train", "test", "validation", "judge")


def single(prompt: str, good: bool, text: str = "") -> dict[str, Any]:
    return {"prompt": prompt, "completion": text or (GOOD if good else BAD).format(prompt), "label": good}


def thumbs(count: int = 64) -> list[dict[str, Any]]:
    """Responses of which each prompt has one; every third is good."""
    asked = [question.format(place) for place in PLACES for question in QUESTIONS][:count]
    return [single(prompt, place % 3 == 0) for place, prompt in enumerate(asked)]


def both(prompt: str) -> list[dict[str, Any]]:
    return [single(prompt, True), single(prompt, False)]


@pytest.fixture
def prepared(tiny_model: Path, tmp_path: Path) -> Callable[..., Any]:
    """Prepare rows with the tiny model's tokenizer, unpartnered ones kept; return the directory."""
    model = Model("tiny", str(tiny_model), stop_tokens=["<|im_end|>"], pad_token="<|pad|>")

    def make(rows: list[dict[str, Any]], alone: str = "keep", **options: Any) -> Path:
        path = write_rows(tmp_path / "rows.jsonl", rows)
        dataset = Dataset("file", str(path), policies=Policies(alone=alone), **{"test_fraction": 0.2, **options})
        directory = tmp_path / f"prepared-{len(list(tmp_path.glob('prepared-*')))}"
        prepare(dataset, model, load_tokenizer(model, str(tiny_model)), directory, say=lambda _: None)
        return directory

    return make


def records_of(runs: Path) -> dict[str, Any]:
    records = map(read_json, runs.glob("*/*/*-*/record.json"))
    return {record["stage"]: record for record in records if record.get("stage", "base") != "base"}


def prompts_of(splits: Any) -> dict[str, set[str]]:
    return {name: {prompt[-1]["content"] for prompt in rows["prompt"]} for name, rows in splits.items()}


def test_pairs_are_what_they_are_without_the_others(prepared: Callable[..., Any]) -> None:
    """Kept responses are beside the pairs, by prompt on the same side of every split; the judge's pairs are its own."""
    rows = [row for number in range(40) for row in both(f"Pair {number}?")]
    rows += [single(f"Alone {number}?", number % 2 == 0) for number in range(40)]
    rows += [single(f"Pair {number}?", True, f"Another {number}.") for number in range(40)]
    folds = {"validation_fraction": 0.2, "judge_fraction": 0.3}
    loaded: Any = [load_from_disk(str(prepared(rows, alone, **folds))) for alone in ("keep", "drop")]
    kept, dropped = loaded
    for split in SPLITS:
        assert list(kept[split]) == list(dropped[split]) and set(dropped) == {*SPLITS}
        if unpaired(split) in kept:
            assert all(bool(row["chosen_ids"]) is not bool(row["rejected_ids"]) for row in kept[unpaired(split)])
    found = prompts_of(kept)
    sides = [found[split] | found.get(unpaired(split), set()) for split in SPLITS]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 80, "a prompt is on one side, with all its responses"
    assert found["judge"] and not {prompt for prompt in found["judge"] if prompt.startswith("Alone")}
    assert {prompt for prompt in found[unpaired("test")] if prompt.startswith("Pair")} <= found["test"]
    assert {prompt for prompt in found[unpaired("train")] if prompt.startswith("Pair")} == found["train"]


def test_a_response_has_the_ids_that_it_has_in_a_pair(prepared: Callable[..., Any]) -> None:
    pairs: Any = load_from_disk(str(prepared([row for number in range(9) for row in both(f"Q {number}?")])))
    ids = {row["row"] // 2: row for split in pairs.values() for row in split}
    for good, side in ((True, "chosen"), (False, "rejected")):
        alone: Any = load_from_disk(str(prepared([single(f"Q {number}?", good) for number in range(9)])))
        assert len(alone["train"]) == len(alone["test"]) == 0
        for row in (row for split in ("train", "test") for row in alone[unpaired(split)]):
            expected = ids[row["row"]]
            assert row["prompt_ids"] == expected["prompt_ids"] and row[f"{side}_ids"] == expected[f"{side}_ids"]
            assert {*row} == {*expected} and sum(map(bool, (row["chosen_ids"], row["rejected_ids"]))) == 1


def test_methods_get_what_they_can_train_on(prepared: Callable[..., Any]) -> None:
    rows = [row for number in range(20) for row in both(f"Pair {number}?")] + thumbs(30)
    directory = prepared(rows)
    splits: Any = load_from_disk(str(directory))
    for name, method in METHODS.items():
        views: Any = load_pairs(directory, sides=method.unpaired)
        for split in ("train", "test"):
            pairs, alone = list(splits[split]), list(splits[unpaired(split)])
            taken = [row for row in alone if name == "kto" or (name == "sft" and row["chosen_ids"])]
            assert [[row[column] for column in IDS] for row in views[split]] == [
                [row[column] for column in IDS] for row in pairs + taken
            ]
    assert [name for name, method in METHODS.items() if method.unpaired] == ["sft", "kto"]


def test_findings_are_those_of_single_responses(prepared: Callable[..., Any]) -> None:
    """One given twice counts once; one that is called good and bad makes a pair of one response."""
    rows = [*thumbs(30), single("Twice?", True), single("Twice?", True), single("Odd?", True, " ")]
    dropped = read_json(prepared(rows) / "manifest.json")["dropped"]
    assert dropped["train"] == {"empty": dropped["train"]["empty"]} and dropped["train"]["empty"]["rows"] == ["33"]
    assert {name: found["rows"] for name, found in dropped[unpaired("train")].items()} == {"duplicate": ["32"]}
    opposed = [*thumbs(30), single("Is it?", True, "Yes."), single("Is it?", False, "Yes.")]
    assert read_json(prepared(opposed) / "manifest.json")["dropped"]["train"]["identical"]["count"] == 1


def test_a_published_test_split_keeps_its_prompts(prepared: Callable[..., Any], tmp_path: Path) -> None:
    held_out = write_rows(tmp_path / "held-out.jsonl", [*both("Pair?"), *both("Second?"), single("Alone?", True)])
    rows = [*thumbs(20), single("Pair?", True, "Leaked."), single("Alone?", False), *both("Alone?"), *both("Own?")]
    directory = prepared(rows, test_path=str(held_out))
    manifest = read_json(directory / "manifest.json")
    assert manifest["dropped"]["train"]["leak"]["count"] == 1
    assert manifest["dropped"][unpaired("train")]["leak"]["count"] == 2
    found = prompts_of(load_from_disk(str(directory)))
    assert found["test"] == {"Pair?", "Second?"} and found[unpaired("test")] == {"Alone?"}
    assert found["train"] == {"Own?"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("pipeline=dpo",), ["dropped: 64", "policies.alone=keep trains KTO and SFT on it"]),
        (("pipeline=dpo", KEEP), ["dpo (0 to train on, 0 held out)", "pipeline=sft+kto"]),
        (("pipeline=sft+kto,sft", KEEP, "evaluate=true"), ["the judge (0 to train on", "judge=reward:<model>"]),
        (
            ("pipeline=sft+kto", KEEP, "kto.beta=0.1,0.2", "evaluate=true", "judge=none", "--multirun"),
            ["cannot choose a setting"],
        ),
        (("pipeline=sft+kto", "dataset.policies.alone=maybe"), ["alone=maybe: use keep, drop, refuse"]),
        (("pipeline=sft+kto", "dataset.policies.alone=refuse"), ["policies.alone=refuse"]),
    ],
)
def test_what_cannot_train_without_pairs_is_refused_in_a_line(
    words: Words, tmp_path: Path, given: tuple[str, ...], said: list[str]
) -> None:
    file = write_rows(tmp_path / "thumbs.jsonl", thumbs())
    printed = launch(*words(tmp_path, f"dataset.path={file}", *given), status=2)
    (line,) = {line for line in printed.splitlines() if "error:" in line}
    assert all(part in line for part in said), line
    assert not list(tmp_path.glob("*/*/*/record.json"))


def test_kto_learns_from_ratings_alone_and_is_measured_by_their_prompts(words: Words, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "thumbs.jsonl", thumbs())
    options = words(tmp_path / "runs", f"dataset.path={file}", KEEP, "pipeline=sft+kto,sft", "evaluate=true")
    options += ["judge=none", "eval_prompts=4", "sft.num_train_epochs=1", "kto.num_train_epochs=2"]
    printed = launch(*options)
    assert "without a partner" in printed and "its paper advises kto.desirable_weight=" in printed
    manifest = next(read_json(path) for path in tmp_path.glob("runs/_pairs/*/manifest.json"))
    single = manifest["unpaired"]["train"]
    assert manifest["pairs"] == {"train": 0, "test": 0}
    records = records_of(tmp_path / "runs")
    good, bad = single["chosen"]["rows"], single["rejected"]["rows"]
    assert records["kto"]["unpaired"] == {"chosen": good, "rejected": bad}
    assert records["kto"]["pairs"] == 2 * (good + bad) and records["sft"]["pairs"] == good
    answer = next(tmp_path.glob("runs/_sessions/*/table.md")).read_text()
    assert f"SFT → KTO learnt from {good} good ones and {bad} bad ones" in answer
    assert f" SFT learnt from {good} good ones" in answer
    assert "preference accuracy" not in answer and "KL to the base model" in answer
    page = next(tmp_path.glob("runs/_sessions/*/report.html")).read_text()
    assert "the data&#39;s chosen response" in page or "the data's chosen response" in page


@pytest.mark.parametrize("engine", ["packed", "stock"])
def test_a_forecast_counts_what_the_record_counts(
    words: Words, compose: Callable[..., Config], tmp_path: Path, engine: str
) -> None:
    rows = [row for number in range(16) for row in both(f"Pair {number}?")] + thumbs(30)
    file = write_rows(tmp_path / "rows.jsonl", rows)
    given = words(tmp_path / "runs", f"dataset.path={file}", KEEP, "pipeline=kto", f"kto.engine={engine}")
    given += ["kto.num_train_epochs=1", "sft.num_train_epochs=1"]
    launch(*given)
    records = records_of(tmp_path / "runs")
    manifest = next(read_json(path) for path in tmp_path.glob("runs/_pairs/*/manifest.json"))
    config, tokens = compose(*given), counted(manifest)
    for stage, record in records.items():
        done = work(config, stage, tokens)
        assert (done.updates, done.pairs) == (record["updates"], record["pairs"])
        assert done.tokens == pytest.approx(record["tokens"], rel=1e-9)
        if engine == "packed":
            from launch.config.shape import shape_of

            assert done.computed == pytest.approx(record["computed_tokens"], rel=1e-9)
            assert flops(config, stage, shape_of(config.model), tokens) == pytest.approx(record["flops"], rel=1e-6)


def test_weights_that_suit_the_numbers_say_nothing(
    compose: Callable[..., Config], words: Words, tmp_path: Path
) -> None:
    """The paper's range for desirable_weight * good / (undesirable_weight * bad): 1 to 4/3."""
    manifest = {"pairs": {"train": 10}, "unpaired": {"train": {"chosen": {"rows": 20}, "rejected": {"rows": 110}}}}

    def told(*options: str) -> str | None:
        return unbalanced(compose(*words(tmp_path, "pipeline=kto", *options)), manifest)

    assert "kto.desirable_weight=4 to 5.33" in (told() or "")
    assert told("kto.desirable_weight=4.5") is None and told("kto.undesirable_weight=0.2") is None
    assert "2 to 2.67" in (told("kto.undesirable_weight=0.5") or "")
    assert unbalanced(compose(*words(tmp_path, "pipeline=kto")), {"pairs": {"train": 10}}) is None


def test_the_doctor_and_show_tell_them_apart(words: Words, tmp_path: Path) -> None:
    rows = [row for number in range(16) for row in both(f"Pair {number}?")] + thumbs(30)
    given = words(tmp_path / "runs", f"dataset.path={write_rows(tmp_path / 'rows.jsonl', rows)}", KEEP)
    printed = look("launch.doctor", *given)
    assert "train: 16 rows, 16 kept" in printed and "unpaired train: 30 rows, 30 kept" in printed
    assert "responses without a partner, for KTO and SFT:" in printed
    shown = look("launch.show", *given, "row=33")  # the first of the ratings, a good one
    assert "KTO chosen" in shown and "SFT" in shown and "DPO" not in shown
    assert "is the first half of a pair" in look("launch.show", *given, "row=1", status=2)
    assert "DPO" in look("launch.show", *given, "row=2")


def test_an_unpaired_file_says_what_it_is_for(words: Words, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "thumbs.jsonl", thumbs())
    options = [word for word in words(tmp_path, "pipeline=dpo") if not word.startswith("dataset")]
    printed = launch(*options, f"dataset={file}", status=2)
    assert "of single responses KTO and SFT learn with dataset.policies.alone=keep" in printed


def test_a_job_is_checked_before_it_trains(compose: Callable[..., Config], words: Words, tmp_path: Path) -> None:
    """Validation prompts are held out of ratings too, and a stage that would be evaluated on nothing is refused."""
    rows = [single(f"Q {number}?", False) for number in range(40)] + both("Pair?")
    file = write_rows(tmp_path / "rows.jsonl", rows)
    config = compose(*words(tmp_path / "runs", f"dataset.path={file}", KEEP, "pipeline=sft"))
    with pytest.raises(UserError, match=r"sft \(\d to train on, \d held out\)"):
        prepare_job(config)
