"""The doctor's report in the terminal, within 100 columns."""

from pathlib import Path
from textwrap import shorten

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from doctor.diagnosis import Diagnosis, Report
from doctor.lengths import PARTS, Padding
from recipes.data.filter import WHY
from recipes.data.unpaired import UNPAIRED

WIDTH = 100


def show(report: Report, title: str, page: Path, console: Console) -> None:
    """Print the report."""
    console.print(title, style="bold", markup=False)
    for split in report.splits:
        console.print(rows_line(split), markup=False)
        console.print(findings(split))
        console.print(spreads(split))
        if split.sources:
            console.print(sources(split))
        for line in sentences(split):
            console.print(line, markup=False)
        console.print()
    for line in report.unused:
        console.print(line, markup=False)
    console.print("tokens per epoch: pairs padded to the batch's longest (TRL's ORPO), or packed with a shared prompt")
    console.print(paddings(report.paddings))
    console.print(epoch_line(report), markup=False)
    console.print(report.verdict, style="green" if report.healthy else "red", markup=False)
    console.print(f"page: {page}", markup=False, soft_wrap=True)


def rows_line(split: Diagnosis) -> str:
    """Return what happens to a split's rows."""
    parts = [f"{split.rows:,} rows", f"{split.kept:,} kept", f"{split.rows - split.kept - split.refused:,} dropped"]
    parts += [f"{split.refused:,} refused"] if split.refused else []
    return f"{split.name.replace('_', ' ')}: {', '.join([*parts, f'{split.truncated:,} truncated'])}"


def epoch_line(report: Report) -> str:
    """Return what there is to train on, and what an epoch of each method reads."""
    pairs, single = (
        " and ".join(
            f"{count:,} {'to train' if name.endswith('train') else 'to evaluate'} on"
            for name, count in report.pairs.items()
            if name.startswith(UNPAIRED) is apart
        )
        for apart in (False, True)
    )
    pairs += f"; responses without a partner, for KTO and SFT: {single}" if single else ""
    tokens = ", ".join(f"{method} {count:,}" for method, count in report.tokens.items())
    refused = " once the refused rows are dropped" if any(split.refused for split in report.splits) else ""
    again = "a reference model, DPO's or KTO's, processes as many again"
    return f"pairs{refused}: {pairs}\ntokens per epoch, without padding: {tokens} ({again})"


def table(title: str, *columns: str) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    made = Table(title=title or None, title_justify="left", title_style="italic", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if place else "left", overflow="fold")
    return made


def findings(split: Diagnosis) -> Table:
    """Return every finding; those of no row are dim."""
    made = Table(box=None, pad_edge=False, width=WIDTH)
    for column, justify in {"finding": "left", "rows": "right", "which": "left", "policy": "left", "": "left"}.items():
        made.add_column(column, justify=justify, overflow="fold", no_wrap=column in ("finding", "rows"))  # type: ignore[arg-type]
    for found in split.findings:
        cells = [found.name, f"{found.count:,}", found.rows, found.fate if found.count else "", found.reason]
        made.add_row(*map(escape, cells), style=None if found.count else "dim")
    return made


def spreads(split: Diagnosis) -> Table:
    """Return the lengths of the readable rows."""
    made = table("lengths in tokens", "", "median", "90%", "99%", "longest")
    for part in (*PARTS, "pair"):
        found = split.spreads[part]
        name = part if part != "pair" else "prompt and longer response"
        made.add_row(name, *(f"{value:,}" for value in (found.median, found.most, found.nearly_all, found.longest)))
    return made


def sources(split: Diagnosis) -> Table:
    """Return a mixture's sources side by side."""
    made = table("sources", "source", "rows", "kept", "used", "median", "99%", "longer response chosen")
    for found in split.sources:
        share = f"{found.bias.longer / found.bias.unequal:.1%}" if found.bias.unequal else "–"
        counts = (found.rows, found.kept, found.used, found.lengths.median, found.lengths.nearly_all)
        made.add_row(escape(found.name), *(f"{count:,}" for count in counts), share)
    return made


def paddings(found: list[Padding]) -> Table:
    """Return what padding costs, and what packing with a shared prompt saves."""
    made = table("", "pairs per device", "padded", "padding", "packed", "padded / packed")
    for row in found:
        ratios = (
            f"{1 - row.needed / (row.padded or 1):.0%}",
            f"{row.packed:,}",
            f"{row.padded / (row.packed or 1):.2f}x",
        )
        made.add_row(str(row.pairs), f"{row.padded:,}", *ratios)
    return made


def sentences(split: Diagnosis) -> list[str]:
    """Return the lines that need no table."""
    limits = ", ".join(f"{share:.1%} at {limit}" for limit, share in split.beyond.items())
    counts = split.languages
    spoken = ", ".join(f"{code} {count / counts.sample:.1%}" for code, count in counts.counts.items())
    users = ", ".join(f"{count:,} with {name}" for name, count in split.turns.users.items())
    exactly = [
        (found.name, why, rows) for found in split.findings if found.name in WHY for why, rows in found.kinds.items()
    ]
    return [
        *(f"{name}: row {shorten(rows, WIDTH, placeholder=' …')} {why}" for name, why, rows in exactly),
        f"longer than a limit, so truncated or dropped: {limits} tokens",
        f"length bias: {split.bias.words}",
        f"language of the prompts' last turn (guessed, {counts.sample:,} sampled): {spoken or 'none'}",
        f"turns of the user: {users or 'none'}; {split.turns.with_system:,} prompts have a system turn",
    ]
