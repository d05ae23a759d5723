"""CSV files as they are: separators, a broken header, rows of another length; kind B of the trials."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from trials import STOP, Trained, refused, trainer, turn

SIDES = {"chosen": "It's here.", "rejected": "No."}


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path) -> Callable[..., Trained]:
    return trainer(tiny_model, tmp_path)


@pytest.mark.parametrize("mark", [";", "\t", "|", ","])
def test_the_header_tells_the_separator(train: Callable[..., Trained], tmp_path: Path, mark: str) -> None:
    rows = [("prompt", "chosen", "rejected")]
    rows += [(f"Question {number}?", f"Yes{mark} {number}.", "No.") for number in range(8)]
    lines = [mark.join(f'"{cell}"' if mark in cell else cell for cell in row) for row in rows]
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(lines) + "\n")
    assert train(tmp_path / "a.csv").chosen == f"Yes{mark} 0.{STOP}"


@pytest.mark.parametrize(
    "text, said",
    [
        ("prompt,chosen,chosen,rejected\nWhy?,a,b,c\n", "the header names chosen twice"),
        ('prompt,chosen,rejected\nWhy?,a,b\nHow?,"c,d\nWho?,e,f\n', "the row that begins at line 3: unexpected end"),
        ("\ufeff", "has no rows"),
    ],
)
def test_a_csv_file_that_has_no_rows_to_find_is_refused(
    train: Callable[..., Trained], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    refused(train, tmp_path / "a.csv", said)


@pytest.mark.parametrize(
    "ending, advice", [(".xlsx", "save it as CSV"), (".ods", "save it as CSV"), (".pdf", "use .json")]
)
def test_a_spreadsheet_is_to_be_saved_as_csv(
    train: Callable[..., Trained], tmp_path: Path, ending: str, advice: str
) -> None:
    (tmp_path / f"a{ending}").write_bytes(b"PK")
    refused(train, tmp_path / f"a{ending}", "has no supported format", advice)


def test_a_csv_row_of_other_length_is_said(train: Callable[..., Trained], tmp_path: Path) -> None:
    lines = ["prompt,chosen,rejected", *(f"Question {number}?,Yes {number}.,No." for number in range(8)), "Q?,Yes."]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    refused(train, tmp_path / "a.csv", "row 9 has 2 fields where the header names 3", "policies.malformed=drop")


def test_a_spreadsheets_empty_columns_are_left_out(train: Callable[..., Trained], tmp_path: Path) -> None:
    lines = ["prompt,chosen,rejected,,", *(f"Question {number}?,Yes {number}.,No.,," for number in range(8))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    assert train(tmp_path / "a.csv").chosen == f"Yes 0.{STOP}"


@pytest.mark.parametrize("spell", [json.dumps, repr], ids=["JSON", "Python"])
def test_a_column_of_messages_may_be_text(
    train: Callable[..., Trained], tmp_path: Path, spell: Callable[[object], str]
) -> None:
    """As pandas writes a column of lists to a CSV file."""
    said = {side: [turn("Where's it?"), {"role": "assistant", "content": text}] for side, text in SIDES.items()}
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*said])
        writer.writeheader()
        for number in range(8):
            asked = [turn(f"Where's {number}?")]
            writer.writerow({side: spell([*asked, *messages[1:]]) for side, messages in said.items()})
    trained = train(tmp_path / "a.csv")
    assert trained.chosen == f"It's here.{STOP}" and "role" not in trained.prompt and "Where's 0?" in trained.prompt
