"""A session's table on the terminal, in Markdown and as JSON: the answer first, its scope, and then the figures."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from eval.answers.votes import votes_on
from eval.results import people
from eval.results.cells import LOWER, cells, markdown, title
from eval.results.deciding import scored_by
from eval.results.headline import headline
from eval.results.matrix import explain, matrices, tests
from eval.results.metrics import METRICS, STOPPED
from eval.results.row import Row
from eval.results.rows import FORMAT, as_json, build_rows, missing
from eval.results.scope import scope, subjects
from eval.results.session import evaluated, jobs_of
from recipes.config import UserError, write_json, write_text
from recipes.system.commands import output

UNBOUNDED = 10_000  # columns of a terminal wide enough for everything
UNBROKEN = re.compile(r"\[[^]]*\]|\S+")  # an interval, or a word
SHORT = ("gold_sampled", "win_rate_over_sft", "preference_accuracy", "flops")  # of a sweep, on a narrow terminal


def write_table(session: Path) -> None:
    """Print a session's table, and write it as table.md and table.json beside the session's jobs.

    Raises:
        UserError: no job trained anything, or nothing was evaluated.
    """
    rows, jobs = rows_of(session), jobs_of(session)
    plain = [as_json(row) for row in rows]
    first, limits, gaps = headline(plain), scope(rows, jobs), missing(jobs)
    said = [*notes(rows), *explain(rows)]
    parts = [(subjects(jobs), cells(rows)), *matrices(rows)]
    announce([*first, *limits, *gaps])
    fits = [show(name, lines) for name, lines in parts]
    if not all(fits):
        output.print(f"Short form, * marks better or worse by verdict; all figures: {session}/table.md", soft_wrap=True)
    for line in said:
        output.print(line, soft_wrap=True)
    top = [f"**{first[0]}**", *first[1:], " ".join(limits), *gaps]
    text = [line for _, lines in parts for line in [*markdown(lines), ""]]
    pairs = ["", *markdown(tests(rows))] if len(parts) > 1 else []
    write_text(session / "table.md", "\n".join(["\n\n".join(top), "", *text, *said, *pairs, ""]))
    write_json(session / "table.json", {"format": FORMAT, "rows": plain, "scope": limits, "missing": gaps})
    output.print(f"table: {session}/table.md and table.json; responses: eval/ in each stage directory", soft_wrap=True)


def announce(lines: list[str]) -> None:
    """Print the answer, in bold, and what limits it."""
    output.print(lines[0], style="bold", soft_wrap=True)
    for line in lines[1:]:
        output.print(line, soft_wrap=True)


def rows_of(session: Path) -> list[Row]:
    """Return a session's rows.

    Raises:
        UserError: no job trained anything, or nothing was evaluated.
    """
    jobs = jobs_of(session)
    if not any(job["pipelines"] for job in jobs):
        raise UserError(
            f"{session}: no job finished a pipeline with a language model; see the errors in its */job.json"
        )
    ready = [job if evaluated(job) else job | {"pipelines": {}} for job in jobs]
    if not any(job["pipelines"] for job in ready):
        raise UserError(f"{session} has not been evaluated: run `make eval RUNS={session}`")
    return build_rows(ready, votes_on(session))


def show(title: str, lines: list[list[str]]) -> bool:
    """Print a table, head first; if a word or an interval had to be broken, print its short form and return False."""
    whole = drawn(title, lines)
    fits = width(whole) <= output.width
    output.print(whole if fits else drawn(f"{title}, short form".lstrip(", "), shortened(lines)))
    return fits


def drawn(title: str, lines: list[list[str]]) -> Table:
    """Return a table, head first, as the terminal draws it: if it must, as narrow as its words and intervals allow."""
    spread = columns(title, lines, [None for _ in lines[0]])
    if width(spread) <= output.width:
        return spread
    cells = ([cell for line in lines for cell in line[place : place + 1]] for place in range(len(lines[0])))
    least = [max((len(part) for cell in column for part in UNBROKEN.findall(cell)), default=0) for column in cells]
    free = output.width - width(columns(title, lines, least))
    return columns(title, lines, [least[0] + max(free, 0), *least[1:]])


def columns(title: str, lines: list[list[str]], widths: Sequence[int | None]) -> Table:
    """Return a table whose columns are so many characters wide; None: as wide as they need."""
    table = Table(title=title, title_justify="left")
    for place, (name, wide) in enumerate(zip(lines[0], widths, strict=True)):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold", width=wide)
    for line in lines[1:]:
        table.add_row(*map(folded, line), style="bold" if len(line) == 1 else "")
    return table


def width(table: Table) -> int:
    """Return how many columns of a terminal a table takes where there is room."""
    return output.measure(table, options=output.options.update_width(UNBOUNDED)).maximum


def folded(cell: str) -> str:
    """Return a cell with its interval, its verdict and its p each on a line of its own."""
    return cell.replace(" [", "\n[").replace("] ", "]\n").replace(", p", "\np")


def shortened(lines: list[list[str]]) -> list[list[str]]:
    """Return a table without spreads, intervals and p, with verdicts as stars; in a sweep, only the main columns."""
    left_out = {"stages", *(metric.title for metric in METRICS if metric.key not in SHORT)}
    kept = [place for place, name in enumerate(lines[0]) if name not in left_out]
    head, *rest = [[line[place] for place in kept if place < len(line)] for line in lines]
    return [head, *([line[0], *map(starred, line[1:])] for line in rest)]


def starred(cell: str) -> str:
    """Return a cell's number, starred if its verdict is better or worse."""
    mean = re.sub(r" ± \S+| \[[^]]*\]|, p .*", "", cell)
    return re.sub(r" (better|worse)$", " *", mean).removesuffix(" not distinguishable")


def notes(rows: list[Row]) -> Iterable[str]:
    """Return notes on how to read the table."""
    seeds = sorted({seed for row in rows for seed in row.seeds})
    found = STOPPED.scores(rows[0])
    groups = len({*rows[0].results[0]["clusters"]["prompts"]})
    over = f"{found.shape[1]} held-out prompts in {groups} clusters"
    over += f", {found.shape[2]} responses each" if found.ndim == 3 and found.shape[2] > 1 else ""
    interval = f"over {over}"
    if len(seeds) > 1:
        listed = ", ".join(map(str, seeds))
        interval = f"over {over} and seeds {listed} (crossed random effects); mean ± standard deviation over the seeds"
    few = [f"{title(row)} (seed {', '.join(map(str, row.seeds))})" for row in rows if sorted(row.seeds) != seeds]
    partial = [f"Fewer seeds, with win rates over the common ones: {'; '.join(few)}."] if few else []
    return [
        f"Brackets: 95% interval, {interval}. Win rates: {scored_by(rows[0])}. A tie counts half.",
        *regressions(rows),
        "Log-probs: nats per token of held-out responses. Cost: training loop only, summed over the stages; of tokens "
        "computed, padding counts, and a prompt that two responses share counts once.",
        "Rows about endings and lengths: of the responses at temperature 1; max_new_tokens is the data set's.",
        *cost_notes(rows),
        *people.notes(rows),
        *partial,
        *(["Two seeds are too few to know their spread: three are much surer."] * (len(seeds) == 2)),
    ]


def cost_notes(rows: list[Row]) -> Iterable[str]:
    """Say what peak memory is of, where it is not what GPUs had allocated, and which costs an older version counted."""
    records = [record for row in rows for stages in row.records for record in stages]
    if any("memory_before_bytes" in record for record in records):
        yield "Peak memory on a CPU: what loading the model and training added to a process with its libraries."
    if any("attended" not in record for record in records):
        yield (
            "Stages that an older version trained keep its costs: FLOPs without attention and with embedding look-ups, "
            "and on a CPU the memory of the whole process."
        )


def regressions(rows: list[Row]) -> Iterable[str]:
    """Say what the mark of a regression means, and by how many rows of the table two pipelines were compared."""
    tested = max(len({key for key, others in row.differences.items() if others}) for row in rows)
    if tested:
        yield (
            f"{LOWER}: surely worse than the pipelines named after it, by the paired difference; p below 5% after Holm "
            f"over {tested} rows: those with an arrow and an interval, except win rates and what decides them."
        )
