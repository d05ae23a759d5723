"""One tokenisation: what is trained on is what will be generated from, and every dropped row has a name."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from datasets import Dataset as Rows
from datasets import load_from_disk
from kinds import PHI, phi_3
from samples import real
from transformers import AutoTokenizer

from eval.results.clusters import clusters
from recipes.config import UserError, read_json
from recipes.data.prepare import prepare
from recipes.profiles import Dataset, Model
from recipes.training.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
STOP = "<|im_end|>"


def row(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


ROWS = [row(f"Question {number}?", f"Answer {number}.", f"Nothing {number}!") for number in range(20)]


@pytest.fixture
def prepared(tiny_model: Path, tmp_path: Path) -> Callable[..., Any]:
    """Prepare a file with the tiny model's tokenizer; return rows and manifest."""
    model = Model("tiny", str(tiny_model), stop_tokens=[STOP], pad_token="<|pad|>")

    def make(path: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
        dataset = Dataset("file", str(path), **{"test_fraction": 0.3, **options})
        directory = tmp_path / f"prepared-{len(list(tmp_path.glob('prepared-*')))}"
        prepare(dataset, model, load_tokenizer(model, str(tiny_model)), directory, say=lambda _: None)
        return load_from_disk(str(directory)), read_json(directory / "manifest.json")

    return make


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz" or path.suffix == ".csv":
        plain = pandas.DataFrame(rows).to_csv(index=False) if ".csv" in path.name else text
        path.write_bytes(gzip.compress(plain.encode()) if path.suffix == ".gz" else plain.encode())
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        Rows.from_list(rows).to_parquet(str(path))
    else:
        path.write_text(text)
    return path


def asked(rows: Any) -> set[str]:
    return {prompt[-1]["content"] for prompt in rows["prompt"]}


def test_every_kind_of_file_gives_the_same_rows(prepared: Callable[..., Any], tmp_path: Path) -> None:
    names = ("a.json", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.parquet")
    found = {prepared(write(tmp_path / name, ROWS))[1]["fingerprint"] for name in names}
    assert len(found) == 1
    other = [*ROWS[:-1], row("Question 19?", "Answer 19.", "Nothing 19?")]
    assert prepared(write(tmp_path / "b.jsonl", other))[1]["fingerprint"] not in found


def test_ids_are_the_templates_text_with_one_stop(
    prepared: Callable[..., Any], tmp_path: Path, tiny_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    stop = tokenizer.convert_tokens_to_ids(STOP)
    rows, _ = prepared(write(tmp_path / "a.jsonl", ROWS))
    for found in rows["train"]:
        messages = [{"role": "user", "content": f"Question {found['row']}?"}]
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert found["prompt_ids"] == asked
        assert tokenizer.decode(found["chosen_ids"]) == f"Answer {found['row']}.{STOP}"
        assert tokenizer.decode(found["rejected_ids"]) == f"Nothing {found['row']}!{STOP}"
        assert found["chosen_ids"].count(stop) == found["rejected_ids"].count(stop) == 1


@pytest.mark.parametrize("source", ["ours", pytest.param("real", marks=real(PHI))])
@pytest.mark.parametrize("template", [None, "zephyr"])
def test_a_tokenizer_of_phi_3s_form_has_one_bos_and_one_stop(tmp_path: Path, template: str | None, source: str) -> None:
    path = tmp_path / "tokenizer"
    phi_3(source).save_pretrained(path)
    text = template and (ROOT / f"conf/chat_template/{template}.jinja").read_text()
    stops = ["<|endoftext|>"] if template else ["<|end|>", "<|endoftext|>"]
    model = Model("phi", str(path), chat_template=text, stop_tokens=stops, pad_token="<unk>")
    tokenizer = load_tokenizer(model, str(path))
    dataset = Dataset("file", str(write(tmp_path / "a.jsonl", ROWS)), test_fraction=0.3)
    prepare(dataset, model, tokenizer, tmp_path / "phi", say=lambda _: None)
    known: Any = tokenizer.get_vocab()
    rows: Any = load_from_disk(str(tmp_path / "phi"))["train"]
    for found in rows:
        ids = found["prompt_ids"] + found["chosen_ids"]
        assert ids.count(known["<s>"]) == 1 and ids[0] == known["<s>"]
        assert ids[-1] == known[stops[0]]
        assert f"Answer {found['row']}." in tokenizer.decode(found["chosen_ids"])


def test_what_cannot_be_trained_on_is_dropped_counted_and_named(prepared: Callable[..., Any], tmp_path: Path) -> None:
    bad = [row("Same?", "Yes.", "Yes."), row("Empty?", "", "No."), row("Long?", "word " * 400, "No.")]
    rows, manifest = prepared(write(tmp_path / "a.jsonl", [*ROWS, *bad]), max_length=64)
    assert manifest["dropped"]["train"] == {
        "identical": {"reason": "the responses are identical", "count": 1, "rows": ["21"]},
        "empty": {"reason": "the prompt or a response is empty or missing", "count": 1, "rows": ["22"]},
        "overlong": {"reason": "longer than dataset.max_length", "count": 1, "rows": ["23"]},
    }
    assert sum(manifest["pairs"].values()) == 20
    assert all(len(r["prompt_ids"]) + len(r["chosen_ids"]) <= 64 for r in rows["train"])


def test_the_held_out_prompts_are_never_trained_on(prepared: Callable[..., Any], tmp_path: Path) -> None:
    twice = [*ROWS, *(row(f"Question {number}?", "Another.", "Other.") for number in range(20))]
    rows, _ = prepared(write(tmp_path / "a.jsonl", twice), judge_fraction=0.2)
    assert sum(map(len, rows.values())) == 40
    held_out = asked(rows["test"])
    assert not asked(rows["train"]) & held_out and not asked(rows["judge"]) & (asked(rows["train"]) | held_out)
    shuffled, _ = prepared(write(tmp_path / "b.jsonl", twice[::-1]))
    assert asked(shuffled["test"]) == held_out


def test_rows_of_one_cluster_are_told_by_the_column_that_names_them(
    prepared: Callable[..., Any], tmp_path: Path
) -> None:
    told = [{**found, "family": f"family {number % 3}"} for number, found in enumerate(ROWS)]
    path = write(tmp_path / "a.jsonl", told)
    rows, _ = prepared(path, cluster="family", test_fraction=0.5)
    names = [told[number]["family"] for number in rows["test"]["row"]]
    numbers = clusters(rows["test"], embedded=False)
    assert len({*numbers}) == 3 and len({*zip(names, numbers, strict=True)}) == 3
    plain, _ = prepared(path, test_fraction=0.5)
    of_prompts = clusters(plain["test"], embedded=False)
    assert len({*of_prompts}) == len(plain["test"])
    older = plain["test"].remove_columns("cluster")  # as prepared before there was such a column
    assert clusters(older, embedded=False) == of_prompts
    with pytest.raises(UserError, match=r"no column .tribe., which dataset\.cluster names; its columns are .*family"):
        prepared(path, cluster="tribe")


def test_a_prompt_in_both_files_is_dropped_from_training(prepared: Callable[..., Any], tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", ROWS[:4])
    rows, manifest = prepared(write(tmp_path / "a.jsonl", ROWS), test_path=str(test))
    assert len(rows["train"]) == 16 and len(rows["test"]) == 4
    leaked = manifest["dropped"]["train"]["leak"]
    assert (leaked["count"], leaked["rows"]) == (4, ["1", "2", "3", "…"])


GOOD = json.dumps(ROWS[0]) + "\n"


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("empty.jsonl", "", "is empty"),
        ("a.txt", "x", "has no supported format"),
        ("a.jsonl", GOOD + GOOD + '{"chosen": "x", \n', "a.jsonl, train row 3 is not JSON (line 3"),
        ("a.jsonl", GOOD.replace("chosen", "winner"), "has no column 'chosen'"),
        (
            "a.jsonl",
            GOOD + GOOD.replace('"Answer 0."', "true"),
            "a.jsonl, train row 2 column 'chosen' holds bool 'True'",
        ),
        ("a.jsonl", GOOD.replace('"Answer 0."', "true"), "a.jsonl, train row 1 column 'chosen' holds bool 'True'"),
        ("a.jsonl", GOOD + GOOD.replace('"Answer 0."', "null"), "a.jsonl, train row 2 column 'chosen' holds nothing"),
        ("a.parquet", "not parquet", "cannot be read as parquet"),
        ("a.csv", "prompt,chosen\nWhat?,Yes.\n", "has no column 'rejected'"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(
    prepared: Callable[..., Any], tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        prepared(tmp_path / name)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_utf_8_is_said(prepared: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "latin-1.jsonl"
    path.write_bytes('{"prompt": "Café?", "chosen": "Oui.", "rejected": "Non."}\n'.encode("latin-1") * 9)
    with pytest.raises(UserError, match=r"latin-1\.jsonl (is not UTF-8|cannot be read)"):
        prepared(path)


def test_words_that_pandas_takes_for_nothing_are_answers(prepared: Callable[..., Any], tmp_path: Path) -> None:
    lines = [f"Question {number}?,{answer},Never." for number, answer in enumerate(["None", "NA", "null"] * 7)]
    (tmp_path / "a.csv").write_text("\n".join(["prompt,chosen,rejected", *lines]) + "\n")
    rows, _ = prepared(tmp_path / "a.csv")
    assert {*rows["train"]["chosen"], *rows["test"]["chosen"]} == {"None", "NA", "null"}


def test_a_missing_file_is_said(prepared: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        prepared(tmp_path / "none.jsonl")
