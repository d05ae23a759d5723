"""Simulate comparisons whose truth is known, and write how often intervals and verdicts are right.

python -m dev.statistics [--worlds 4000] [--output docs]
"""

import argparse
import sys
from pathlib import Path

from jinja2 import Environment
from rich.progress import Progress

from dev.statistics.studies import STUDIES
from recipes.system.commands import console, run_command
from recipes.system.files import write_text

PAGE = Path(__file__).with_name("page.md.jinja")


def options(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.statistics", description=__doc__)
    parser.add_argument("--worlds", type=int, default=4000, help="comparisons simulated for each figure (4000)")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="where statistics.md is written (docs)")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Run every study, under a bar, and write the page."""
    given = options(words)
    cases = [(study, case) for study in STUDIES for case in study.cases]
    lines: dict[str, list[str]] = {study.name: [] for study in STUDIES}
    with Progress(console=console) as bar:
        task = bar.add_task("simulating", total=len(cases))
        for study, case in cases:
            lines[study.name].append(study.line(case, given.worlds))
            bar.advance(task)
    page = Environment(trim_blocks=True, autoescape=False).from_string(PAGE.read_text())
    heads = {study.name: study.head for study in STUDIES}
    text = page.render(heads=heads, lines=lines, worlds=given.worlds, figures=figures)
    write_text(given.output / "statistics.md", text + "\n")
    console.print(f"{given.output}/statistics.md", soft_wrap=True)


def figures(lines: list[str], column: int | None = None) -> list[float]:
    """Return the numbers of a table's lines, or those of one column after the first."""
    rows = [[float(cell) for cell in line.strip("| ").split(" | ")[1:]] for line in lines]
    return [number for row in rows for number in (row if column is None else [row[column]])]


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
