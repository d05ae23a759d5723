"""Files as they are: what people have is read, and one bad row is one finding; kind B of the trials."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset as Rows
from datasets import DatasetDict
from trials import ROOT, ROWS, STOP, Trained, refused, row, said, trainer, turn, write

from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.doctor import doctor
from recipes.config import UserError
from recipes.data.files import files_of
from recipes.data.sources import load_files

Words = Callable[..., list[str]]
# As of Mistral v0.3: the system turn goes before the last question, so it is gone once that is answered.
MISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.last and messages[0].role == 'system' %}"
    "{{ messages[0].content }}\n\n{% endif %}{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}"
    "<|im_end|>{% endif %}{% endfor %}"
)


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path) -> Callable[..., Trained]:
    return trainer(tiny_model, tmp_path)


# B9: only what is used needs a type, and text stays text.


def test_columns_need_no_type(train: Callable[..., Trained], tmp_path: Path) -> None:
    changing: list[Any] = [1, "one", None, {"a": 1}, [1, "2"], 1.5, {"a": "b"}, True]
    rows = [found | {"more": more} for found, more in zip(ROWS, changing, strict=True)] + [ROWS[0] | {"late": [[]]}]
    assert len(train(write(tmp_path / "a.jsonl", rows)).rows) == 8
    mixed = [row([turn("Q?")], "Yes.", "No."), row("R?", [said("Yes.")], "No."), row("S?", said("Yes."), "No.")]
    assert [prompt.count("<|im_start|>") for prompt, *_ in list(train(mixed).rows.values())[:3]] == [2, 2, 2]


SPELLED = ["007", "1.50", "2024-01-01", '{"a": 1}', "1e3", "null", "[1]", "10:30", "12345678901234567890123"]


def test_text_is_what_stands_in_the_file(train: Callable[..., Trained], tmp_path: Path) -> None:
    rows = [row(f"Q {number}?", text, "No.") for number, text in enumerate(SPELLED)]
    cells = [row(f"Q {number}?", text.replace('"', '""'), "No.") for number, text in enumerate(SPELLED)]
    for name, written in (("a.jsonl", rows), ("a.csv", cells), ("a.parquet", rows)):
        found = train(write(tmp_path / name, written)).rows
        assert [found[number][1] for number in range(len(SPELLED))] == [text + STOP for text in SPELLED]
    numbers = "".join(
        f'{{"prompt": "Q {text}?", "chosen": {text}, "rejected": "No."}}\n' for text in ("7", "1.50", "1e3")
    )
    (tmp_path / "b.jsonl").write_text(numbers * 1 + "".join(json.dumps(found) + "\n" for found in ROWS))
    found = train(tmp_path / "b.jsonl").rows
    assert [found[number][1] for number in range(3)] == [text + STOP for text in ("7", "1.50", "1e3")]


# B10: one bad row is one finding.


def test_a_row_that_cannot_be_rendered_right_is_its_own_finding(train: Callable[..., Trained]) -> None:
    system = row([turn("Be brief.", "system"), turn("Hi?")], "Yes.", "No.")
    why = (
        "row 1 the chat template cannot render the dialogue (it renders the prompt differently once a response follows)"
    )
    refused(train, [system], why, "set dataset.policies.unrendered=drop", template=MISTRAL)
    trained = train([system], MISTRAL, policies={"unrendered": "drop"})
    assert [*trained.rows] and 0 not in trained.rows and len(trained.rows) == 8


def test_a_line_that_is_no_row_is_its_own_finding(train: Callable[..., Trained], tmp_path: Path) -> None:
    lines = [*map(json.dumps, ROWS), "{broken", "[1]", '{"prompt": "Q?", "chosen": "\\ud83d", "rejected": "No."}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    kinds = (
        "row 9 is not JSON (line 9, column 2",
        "row 10 is list, not an object",
        "row 11 column 'chosen' holds half of",
    )
    refused(train, tmp_path / "a.jsonl", *kinds, "set dataset.policies.malformed=drop")
    assert len(train(tmp_path / "a.jsonl", policies={"malformed": "drop"}).rows) == 8


# B11: small files.


@pytest.mark.parametrize("count", [10, 60])
def test_few_pairs_are_enough(train: Callable[..., Trained], tmp_path: Path, count: int) -> None:
    rows = [row(f"Question {number}: say something.", f"Answer {number}.", "No.") for number in range(count)]
    found = train(write(tmp_path / "few.jsonl", rows)).counts
    assert found["test"] >= 2 and found["train"] >= count - 6
    split = train(write(tmp_path / "few.jsonl", rows), validation_fraction=0.1, judge_fraction=0.2).counts
    assert all(split[name] >= 2 for name in ("train", "test", "validation", "judge")) and sum(split.values()) == count


def test_one_prompt_cannot_be_held_out(train: Callable[..., Trained], tmp_path: Path) -> None:
    rows = [row("Write a slogan.", f"Great {number}", f"bad {number}") for number in range(9)]
    file = write(tmp_path / "one.jsonl", rows)
    refused(train, file, "all pairs share one prompt, and prompts, not pairs, are held out", "dataset.test_path=<file>")
    assert train(file, test_path=str(write(tmp_path / "test.jsonl", ROWS))).counts == {"train": 9, "test": 8}


# B12: forms that people have.


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def human(text: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": text}]


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


FORMS: dict[str, dict[str, Any]] = {
    "typed content": row([turn(parts("Hi?"))], [said(parts("Yes", "."))], [said(parts("No."))]),
    "ShareGPT": {
        "conversations": human("Hi?"),
        "chosen": gpt("Yes."),
        "rejected": gpt("No."),
    },
    "ShareGPT's lists": {
        "conversations": human("Hi?"),
        "chosen": [gpt("Yes.")],
        "rejected": "No.",
    },
    "Alpaca": {"instruction": "Hi?", "input": "", "chosen": "Yes.", "rejected": "No."},
    "a question": {"question": "Hi?", "chosen": "Yes.", "rejected": "No."},
    "messages": {"messages": [turn("Hi?")], "chosen": said("Yes."), "rejected": said("No.")},
}


@pytest.mark.parametrize("form", FORMS)
def test_everyday_forms_are_the_same_pair(train: Callable[..., Trained], tmp_path: Path, form: str) -> None:
    plain = train([row("Hi?", "Yes.", "No.")]).rows[0]
    trained = train(write(tmp_path / "form.jsonl", [FORMS[form], *ROWS]))
    assert trained.rows[0] == plain and "does not use" not in trained.line


def test_alpacas_input_follows_its_instruction(train: Callable[..., Trained]) -> None:
    trained = train([{"instruction": "Add.", "input": "1 and 2", "system": "Count.", "chosen": "3", "rejected": "4"}])
    assert "system\nCount." in trained.prompt and "Add.\n1 and 2" in trained.prompt


def test_folders_and_patterns_are_all_their_files(train: Callable[..., Trained], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    write(folder / "part-0001.jsonl", ROWS[:3])
    write(folder / "deep" / "part-0002.parquet", ROWS[3:6])
    write(folder / "part-0003.csv", ROWS[6:])
    (folder / "README.md").write_text("no rows")
    (folder / "dataset_info.json").write_text("{}")
    assert {found[1] for found in train(folder).rows.values()} == {f"Answer {number}.{STOP}" for number in range(8)}
    for pattern, count in (("part-*", 5), ("**/*.parquet", 3), ("part-000[13]*", 5)):
        assert len(load_files(f"{folder}/{pattern}").rows) == count
    with pytest.raises(UserError, match=r"\*\.csvs matches no file"):
        train(f"{folder}/*.csvs")


def test_a_rendered_text_is_told(train: Callable[..., Trained]) -> None:
    """It is trained as the text that it is."""
    rendered = row("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", "So.<|im_end|>", "No.<|im_end|>")
    assert "a chat template's marks, as if it had been rendered before (rows 1)" in train([rendered]).line


def test_what_names_no_split_is_trained_on_beside_a_test_file_and_caches_are_not(tmp_path: Path) -> None:
    for name in ("pairs.jsonl", "test.jsonl", "cache-0.arrow"):
        (tmp_path / name).write_text("{}\n")
    assert files_of(str(tmp_path)) == [tmp_path / "pairs.jsonl"]
    assert files_of(str(tmp_path), "test") == [tmp_path / "test.jsonl"]


def test_a_pattern_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    assert files_of("~/*.jsonl") == files_of("~/pairs.jsonl") == [tmp_path / "pairs.jsonl"]
    for nobodys in ("~nobody-at-all/*.jsonl", "~nobody-at-all/pairs.jsonl"):
        with pytest.raises(UserError, match="~nobody-at-all"):
            files_of(nobodys)


def test_a_folders_test_shards_are_held_out(train: Callable[..., Trained], tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    write(hub / "data" / "train-00000-of-00002.parquet", ROWS[:3])
    write(hub / "data" / "train-00001-of-00002.parquet", ROWS[3:5])
    write(hub / "data" / "test-00000-of-00001.parquet", ROWS[5:])
    assert train(hub).counts == {"train": 5, "test": 3}
    with pytest.raises(UserError, match=r"no files of the split 'other', but of test, train: set dataset\.train_split"):
        train(hub, train_split="other")
    saved = tmp_path / "saved"
    DatasetDict({"train": Rows.from_list(ROWS[:5]), "test": Rows.from_list(ROWS[5:])}).save_to_disk(str(saved))  # type: ignore[arg-type]
    assert train(saved).counts == {"train": 5, "test": 3}


# B13: a spreadsheet's separator, a misspelt column, rows that are none.


@pytest.mark.parametrize("name", ["typo.csv", "typo.jsonl", "typo.parquet"])
def test_a_misspelt_column_is_told_before_anything_is_imported(
    compose: Callable[..., Config], tmp_path: Path, name: str
) -> None:
    file = write(tmp_path / name, [{"prompt": "Q?", "choosen": "Yes.", "rejected": "No."}])
    said = "has no column 'chosen'; its columns are prompt, choosen, rejected: rename choosen to chosen"
    with pytest.raises(UserError, match=said):
        refuse_useless(compose("model=qwen2.5-0.5b", "dataset=file", f"dataset.path={file}"))
    code = (
        "import sys; from recipes.data.files import check_source; from recipes.profiles import Dataset\n"
        f"try: check_source(Dataset('file', {str(file)!r}))\nexcept Exception as error: print(error)\n"
        "assert not {'torch', 'datasets', 'transformers', 'pandas'} & {*sys.modules}"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said in answer.stdout


def test_each_kind_of_malformed_row_has_its_reason_and_all_rows_are_in_the_page(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [found | {"prompt": f"Row {number}?"} for number, found in enumerate(ROWS * 4)]
    kinds = {"has no column 'chosen'; its columns are choosen, prompt, rejected": [4], "holds nothing (null)": [8, 12]}
    rows[3]["choosen"] = rows[3].pop("chosen")
    rows[7]["rejected"] = rows[11]["rejected"] = None
    rows[20:] = [found | {"prompt": " "} for found in rows[20:]]
    file = write(tmp_path / "broken.jsonl", rows)
    doctor(words(tmp_path, f"dataset.path={file}"))
    printed = capsys.readouterr().out
    (page,) = (tmp_path / "_doctor").glob("*.html")
    for why, numbers in kinds.items():
        (line,) = (line for line in printed.splitlines() if line.startswith("malformed: ") and why in line)
        assert f"row {numbers[0]}" in line
        assert f"row {', '.join(map(str, numbers))}" in page.read_text()
    assert "set dataset.policies.malformed=drop" in " ".join(printed.split())


def test_blank_lines_before_a_json_array_are_skipped(train: Callable[..., Trained], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n\n " + json.dumps(ROWS))
    assert sum(train(tmp_path / "a.json").counts.values()) == len(ROWS)


def test_an_empty_prompt_is_dropped_as_an_empty_answer_is(train: Callable[..., Trained]) -> None:
    found = train([row(" ", "Yes.", "No."), row("Why?", "", "No.")])
    assert "dropped" in found.line and "the prompt or a response is empty or missing, rows 1, 2" in found.line
