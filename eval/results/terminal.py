"""A session's figures on the terminal: whole where there is room, else the main ones without intervals."""

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from eval.results.cells import LOWER
from eval.results.metrics import METRIC, METRICS
from eval.results.statistics import BETTER, NONE, SAME, UNSURE, WORSE
from recipes.system.commands import output

Lines = list[list[str]]  # a table as text, head first
UNBOUNDED = 10_000  # columns of a terminal wide enough for everything
UNBROKEN = re.compile(r"\[[^]]*\]|\S+")  # an interval, or a word
SIGNS = {BETTER: "▲", WORSE: LOWER, SAME: "=", UNSURE: "?", NONE: ""}
LEGEND = "▲ better, ▼ worse, = practically the same, ? not distinguishable, by verdict"
COLOURS = {BETTER: "green", WORSE: "red", "▲": "green", LOWER: "red"}
# What a narrow terminal shows: of a few pipelines these lines, under names that fit; of a sweep these columns.
MAIN = {
    "win_rate_over_rival": "win rate over its rival",
    "length_controlled_over_rival": "the same, length-controlled",
    "win_rate_over_sft": "win rate over SFT",
    "people_over_rival": "people's, over its rival",
    "people_over_sft": "people's, over SFT",
    "gold_sampled": "gold reward",
    "reward_sampled": "judge's reward",
    "right_sampled": "right fact",
    "judge_accuracy": "accuracy of the judge",
    "preference_accuracy": "preference accuracy",
    "forgetting": "forgetting, nats/token",
    "stopped": "ended with a stop token",
    "length": "mean length, tokens",
    "device_seconds": "device-seconds",
    "peak_memory_gb": "peak memory, GB",
    "flops": "FLOPs",
}
SWEPT = ("gold_sampled", "win_rate_over_sft", "preference_accuracy", "flops")


def say(lines: Sequence[str]) -> None:
    """Print sentences; on a terminal no word is broken, and in a file no line."""
    for line in lines:
        output.print(line, soft_wrap=not output.is_terminal)


def show(parts: Sequence[tuple[str, Lines]]) -> bool:
    """Print tables with their titles; return False if they were shortened, as one did not fit without broken words."""
    whole = [fitted(title, lines) for title, lines in parts]
    fits = all(width(table) <= output.width for table in whole)
    short = [table for title, lines in parts for table in drawn(title, shortened(lines))]
    output.print(*(whole if fits else short), sep="\n")
    return fits


def drawn(title: str, lines: Lines) -> list[Table]:
    """Return a table as the terminal draws it: where it is too wide, its columns in several tables with one side."""
    for count in range(len(lines[0]), 1, -1):
        table = fitted(title, [line[:count] for line in lines])
        if width(table) <= output.width:
            rest = [line[:1] + line[count:] for line in lines]
            return [table, *(drawn("", rest) if len(rest[0]) > 1 else [])]
    return [fitted(title, lines)]  # nothing can be taken away


def fitted(title: str, lines: Lines) -> Table:
    """Return one table: if it must, as narrow as its words and intervals allow."""
    spread = columns(title, lines, [None for _ in lines[0]])
    if width(spread) <= output.width:
        return spread
    cells = [[cell for line in lines[1:] for cell in line[place : place + 1]] for place in range(len(lines[0]))]
    least = [longest([name, *column]) for name, column in zip(lines[0], cells, strict=True)]
    whole = [max(wide, len(name)) for wide, name in zip(least, lines[0], strict=True)]  # no head is broken
    for widths in (whole, least):
        free = output.width - width(columns(title, lines, widths))
        if free >= 0:
            return columns(title, lines, [widths[0] + free, *widths[1:]])
    return columns(title, lines, least)


def longest(cells: list[str]) -> int:
    """Return the length of the longest part that must not be broken."""
    return max((len(part) for cell in cells for part in UNBROKEN.findall(cell)), default=0)


def columns(title: str, lines: Lines, widths: Sequence[int | None]) -> Table:
    """Return a table whose columns are so many characters wide; None: as wide as they need."""
    table = Table(title=title, title_justify="left")
    for place, (name, wide) in enumerate(zip(lines[0], widths, strict=True)):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold", width=wide)
    for line in lines[1:]:
        table.add_row(*map(coloured, map(folded, line)), style="bold" if len(line) == 1 else "")
    return table


def width(table: Table) -> int:
    """Return how many columns of a terminal a table takes where there is room."""
    return output.measure(table, options=output.options.update_width(UNBOUNDED)).maximum


def folded(cell: str) -> str:
    """Return a cell with its interval, its verdict and its p each on a line of its own."""
    return cell.replace(" [", "\n[").replace("] ", "]\n").replace(", p", "\np")


def coloured(cell: str) -> Text:
    """Return a cell in the colour of its verdict."""
    found = [style for word, style in COLOURS.items() if re.search(rf"(?<!\S){word}(?!\S)", cell)]
    return Text(cell, style=found[0] if found else "")


def shortened(lines: Lines) -> Lines:
    """Return a table without spreads, intervals and p, and with signs for verdicts; only what is `MAIN` or `SWEPT`."""
    keys = {metric.title: metric.key for metric in METRICS}
    if "stages" in lines[0]:
        left_out = {"stages", *(name for name, key in keys.items() if key not in SWEPT)}
        kept = [place for place, name in enumerate(lines[0]) if name not in left_out]
        lines = [[line[place] for place in kept if place < len(line)] for line in lines]
    head, *rest = [line for line in lines if line[0] != "stages" and keys.get(line[0]) in (None, *MAIN)]
    found = [head, *([narrow(keys.get(line[0]), line[0]), *map(signed, line[1:])] for line in rest)]
    last = [*found[1:], [""]]  # a heading without lines goes
    return [head, *(line for line, after in zip(found[1:], last[1:], strict=True) if len(line) > 1 or len(after) > 1)]


def narrow(key: str | None, name: str) -> str:
    """Return a line's name with which the table fits."""
    return name if key is None else f"{MAIN[key]}{METRIC[key].title.removeprefix(METRIC[key].label)}"


def signed(cell: str) -> str:
    """Return a cell's number, with a sign for its verdict and a power of ten without filling."""
    mean = re.sub(r" ± \S+| \[[^]]*\]|, p .*", "", cell)
    mean = re.sub(r"e\+0?(?=\d)", "e", mean)
    mean = re.sub(rf"({LOWER}) .*", r"\1", mean)
    verdict = next((word for word in sorted(SIGNS, key=len, reverse=True) if mean.endswith(f" {word}")), None)
    return mean if verdict is None else f"{mean.removesuffix(verdict)}{SIGNS[verdict]}".rstrip()
