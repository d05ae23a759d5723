"""The doctor's report as one HTML page that needs nothing beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from doctor import figures
from doctor.diagnosis import Diagnosis, Found, Report
from doctor.lengths import PARTS
from recipes.config import Dataset, write_text
from recipes.sources import load_source

BEGINNING, END = 240, 160  # characters that are shown of a text


def write_page(report: Report, dataset: Dataset, parts: Sequence[Dataset], title: str, path: Path) -> None:
    """Write the page; whatever comes from the data is escaped by the template engine."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    read = Originals(parts or [dataset])
    splits = [
        {
            "found": split,
            "figures": [
                (Markup(figure), caption)
                for figure, caption in drawn(split, dataset)  # ours, not the data's
            ],
            "examples": [(found, examples(split, found, read)) for found in split.findings if found.count],
        }
        for split in report.splits
    ]
    template = environment.get_template("page.html.jinja")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, template.render(title=title, report=report, splits=splits, parts=(*PARTS, "pair")))


def drawn(split: Diagnosis, dataset: Dataset) -> list[tuple[str, str]]:
    """Return the figures of a split, each with a sentence that says what to see."""
    limit, prompt, pair = dataset.max_length, split.spreads["prompt"], split.spreads["pair"]
    longer = f"{split.beyond.get(limit, 0):.1%}" if limit in split.beyond else None
    lengths = (
        f"Half of the prompts have at most {prompt.median:,} tokens, and 99 in 100 at most {prompt.nearly_all:,}. A "
        f"prompt with its longer answer has {pair.median:,} in the middle and {pair.longest:,} at most; the line is "
        f"dataset.max_length{f', which {longer} of the pairs exceed' if longer else ''}."
    )
    bias = split.bias.words
    rows = [found for found in split.findings if found.count]
    most = max(rows, key=lambda found: found.count, default=None)
    found = (
        f"{most.name} is the most frequent finding, in {most.count:,} of {split.rows:,} rows ({most.reason}). Hatched "
        "bars are rows that are used all the same."
        if most
        else "No row has any finding."
    )
    return [
        (figures.findings(split), found),
        (figures.lengths(split, limit), lengths),
        (figures.differences(split), f"{bias[0].upper()}{bias[1:]}. Balanced data would be symmetric about zero."),
    ]


class Originals:
    """The sources' rows as they are written there; read again where a row could not be understood."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts
        self.loaded: dict[str, Any] = {}

    def row(self, split: str, source: str, number: int) -> dict[str, Any]:
        """Return one row."""
        if source not in self.loaded:
            (part,) = (part for part in self.parts if part.name == source)
            self.loaded[source] = load_source(part, train_only=len(self.parts) > 1)
        return self.loaded[source][split][number]


def examples(split: Diagnosis, found: Found, read: Originals) -> list[tuple[str, dict[str, str]]]:
    """Return the rows named for a finding: number, and column -> the beginning and end of its text."""
    shown = []
    for index in found.indices:
        row = split.split.rows[index]
        name = f"{row['source']} {row['row'] + 1}" if split.sources else f"row {row['row'] + 1}"
        if row["problem"] in ("", "unrendered"):
            prompt = "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["prompt"])
            texts: dict[str, Any] = {"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"]}
        else:
            texts = read.row(split.name, row["source"], row["row"])
        detail = {"why": row["detail"]} if row["detail"] else {}
        shown.append((name, detail | {column: excerpt(said(text)) for column, text in texts.items()}))
    return shown


def said(value: Any) -> str:
    """Return a column's value as text: messages as `role: content`, anything else as it prints."""
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in value)
    return str(value)


def excerpt(text: str) -> str:
    """Return a text's beginning and, of a long one, its end."""
    text = text.strip()
    return text if len(text) <= BEGINNING + END + 20 else f"{text[:BEGINNING]} […] {text[-END:]}"
