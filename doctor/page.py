"""The doctor's report as one self-contained HTML page."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from doctor import figures
from doctor.diagnosis import Diagnosis, Found, Report
from doctor.examples import Originals, excerpts
from doctor.lengths import PARTS
from eval.pages.html import render
from recipes.config import write_text
from recipes.data.unpaired import UNPAIRED
from recipes.profiles import Dataset


def write_page(report: Report, dataset: Dataset, parts: Sequence[Dataset], title: str, path: Path) -> None:
    """Write the page; the template engine escapes everything that comes from the data."""
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
    values = {"title": title, "report": report, "splits": splits, "parts": (*PARTS, "pair")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render("page.html.jinja", values, Path(__file__).parent))


def drawn(split: Diagnosis, dataset: Dataset) -> list[tuple[str, str]]:
    """Return the figures of a split, each with a caption that says what to see."""
    limit, prompt, pair = dataset.max_length, split.spreads["prompt"], split.spreads["pair"]
    longer = f"{split.beyond.get(limit, 0):.1%}" if limit in split.beyond else None
    lengths = (
        f"Half of the prompts have at most {prompt.median:,} tokens, and 99 in 100 at most {prompt.nearly_all:,}. A "
        f"prompt with its longer response has a median of {pair.median:,} and at most {pair.longest:,}; the line is "
        f"dataset.max_length{f', which {longer} of the pairs exceed' if longer else ''}."
    )
    bias = split.bias.words
    rows = [found for found in split.findings if found.count]
    most = max(rows, key=lambda found: found.count, default=None)
    found = (
        f"{most.name} is the most frequent finding, in {most.count:,} of {split.rows:,} rows ({most.reason}). Hatched "
        "bars are findings that the policy keeps."
        if most
        else "No row has any finding."
    )
    drawn = [(figures.findings(split), found), (figures.lengths(split, limit), lengths)]
    if split.name.startswith(UNPAIRED):
        return drawn
    said = f"{bias[0].upper()}{bias[1:]}. Balanced data would be symmetric about zero."
    return [*drawn, (figures.differences(split), said)]


def examples(split: Diagnosis, found: Found, read: Originals) -> list[tuple[str, dict[str, str]]]:
    """Return the named rows of a finding: number, and column -> the beginning and end of its text."""
    rows = [split.split.rows[index] for index in found.indices]
    names = [f"{row['source']} {row['row'] + 1}" if split.sources else f"row {row['row'] + 1}" for row in rows]
    return [(name, excerpts(row, split.name, read)) for name, row in zip(names, rows, strict=True)]
