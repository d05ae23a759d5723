"""The table: pipelines side by side, with their quality and cost; for the terminal, in Markdown and JSON."""

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from rich.table import Table

from eval.answers.votes import votes_on
from eval.results import people
from eval.results.deciding import scored_by
from eval.results.matrix import explain, matrices, tests
from eval.results.metrics import FLOPS, METRICS, PAIRS, SECONDS, SHORT, STOPPED, TOKENS, Metric
from eval.results.row import Row
from eval.results.rows import FORMAT, NAMES, as_json, build_rows, missing
from eval.results.session import evaluated, jobs_of
from eval.results.statistics import Comparison, Estimate
from recipes.config import UserError, write_json, write_text
from recipes.system.commands import output

ABSENT = "–"
UNBOUNDED = 10_000  # columns of a terminal wide enough for everything
BUDGETS = {"pairs": PAIRS, "tokens": TOKENS, "flops": FLOPS, "seconds": SECONDS}


def write_table(session: Path) -> None:
    """Print a session's table, and write it as table.md and table.json beside the session's jobs.

    Raises:
        UserError: no job trained anything, or nothing was evaluated.
    """
    rows, jobs = rows_of(session), jobs_of(session)
    models = ", ".join(dict.fromkeys(f"{job['model']} on {job['dataset']}" for job in jobs if job["pipelines"]))
    parts = [(models, cells(rows)), *matrices(rows)]
    gaps = missing(jobs)
    said = [*notes(rows), *explain(rows), *gaps]
    fits = [show(name, lines) for name, lines in parts]
    if not all(fits):
        output.print(f"Short form, * marks better or worse by verdict; all figures: {session}/table.md", soft_wrap=True)
    for line in said:
        output.print(line, soft_wrap=True)
    text = [line for _, lines in parts for line in [*markdown(lines), ""]]
    pairs = ["", *markdown(tests(rows))] if len(parts) > 1 else []
    write_text(session / "table.md", "\n".join([*text, *said, *pairs, ""]))
    write_json(session / "table.json", {"format": FORMAT, "rows": [as_json(row) for row in rows], "missing": gaps})
    output.print(f"table: {session}/table.md and table.json; responses: eval/ in each stage directory", soft_wrap=True)


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
    """Print a table, head first; if words would have to be broken, print its short form and return False."""
    whole = drawn(title, lines)
    least = output.measure(whole, options=output.options.update_width(UNBOUNDED)).minimum
    fits = least <= output.width
    output.print(whole if fits else drawn(f"{title}, short form".lstrip(", "), shortened(lines)))
    return fits


def drawn(title: str, lines: list[list[str]]) -> Table:
    """Return a table, head first, as the terminal draws it: an interval, a verdict and a p get their own lines."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(lines[0]):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for line in lines[1:]:
        table.add_row(*(cell.replace(" [", "\n[").replace("] ", "]\n").replace(", p", "\np") for cell in line))
    return table


def shortened(lines: list[list[str]]) -> list[list[str]]:
    """Return a table without spreads, intervals and p, with verdicts as stars; in a sweep, only the main columns."""
    left_out = {"stages", *(metric.title for metric in METRICS if metric.key not in SHORT)}
    kept = [place for place, name in enumerate(lines[0]) if name not in left_out]
    head, *rest = [[line[place] for place in kept] for line in lines]
    return [head, *([line[0], *map(starred, line[1:])] for line in rest)]


def starred(cell: str) -> str:
    """Return a cell's number, starred if its verdict is better or worse."""
    mean = re.sub(r" ± \S+| \[[^]]*\]|, p .*", "", cell)
    return re.sub(r" (better|worse)$", " *", mean).removesuffix(" not distinguishable")


def cells(rows: list[Row]) -> list[list[str]]:
    """Return the table as text, head first: one column per pipeline if they are few, else one line per setting."""
    wanted = [metric for metric in METRICS if any(row.values[metric.key] is not None for row in rows)]
    lines = [["stages", *(" → ".join(row.stages) or ABSENT for row in rows)]]
    lines += [[metric.title, *(text(metric, row) for row in rows)] for metric in wanted]
    table = [["", *map(title, rows)], *lines]
    return table if len(rows) <= 6 else [list(line) for line in zip(*table, strict=True)]


def title(row: Row) -> str:
    """Return the head of a row's column."""
    return f"{NAMES.get(row.pipeline, row.pipeline)} {row.setting}".strip()


def text(metric: Metric, row: Row) -> str:
    """Return one cell: a number, or an estimate with its interval and, for a win rate, the verdict."""
    value = row.values[metric.key]
    if value is None:
        return ABSENT
    if isinstance(value, str):
        return value
    if isinstance(value, Comparison):
        return f"{interval(metric, value.rate)} {value.verdict}"
    return interval(metric, value) if isinstance(value, Estimate) else metric.text(value)


def interval(metric: Metric, found: Estimate) -> str:
    """Return an estimate as text: the mean, the spread over seeds if there are several, and the interval."""
    spread = f" ± {metric.text(found.spread)}" if found.spread is not None else ""
    return f"{metric.text(found.mean)}{spread} [{metric.text(found.low)}, {metric.text(found.high)}]"


def markdown(lines: list[list[str]]) -> list[str]:
    """Return a table, head first, in Markdown."""
    rule = ["---", *("---:" for _ in lines[0][1:])]
    return ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]


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
        "Log-probs: nats per token of held-out responses. Cost: training loop only, summed over the stages; of tokens "
        "computed, padding counts, and a prompt that two responses share counts once.",
        "Rows about endings and lengths: of the responses at temperature 1; max_new_tokens is the data set's.",
        *cost_notes(rows),
        *people.notes(rows),
        *held_equal(rows),
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


def held_equal(rows: list[Row]) -> Iterable[str]:
    """Return notes on which of pairs, tokens, FLOPs and device-seconds were matched, how closely, and the rest."""
    trained = [row for row in rows if row.stages]
    free = [row for row in trained if not row.budgets]
    if free and len(trained) > 1:
        settings = ", ".join(dict.fromkeys(str(row.setting) for row in free))
        yield (
            f"Nothing was matched{f' at {settings}' if len(free) < len(trained) else ''}: pipelines trained as "
            "configured; pairs read, tokens, FLOPs and device-seconds are rows of the table."
        )
    for setting, group in groupby(trained, lambda row: row.setting):
        members = list(group)
        if members[0].budgets:
            yield f"Matched{f' at {setting}' if setting else ''}: {budget(members)}"


def budget(rows: list[Row]) -> str:
    """Return the matched budget of a setting's pipelines, and what they spent of the other quantities."""
    first = rows[0].budgets[0]
    held, of = BUDGETS[first["held"]], NAMES.get(first["of"], first["of"])
    amount = held.text(sum(found["amount"] for found in rows[0].budgets) / len(rows[0].budgets))
    rest = [cost for cost in BUDGETS.values() if cost != held]
    spent = {row.pipeline: ", ".join(f"{text(cost, row)} {cost.label}" for cost in rest) for row in rows}
    said = "; ".join(f"{NAMES.get(name, name)} {figures}" for name, figures in spent.items())
    return f"{held.label}, at the {amount} of {of} (all within {max(map(deviation, rows)):.1%}). Not matched: {said}."


def deviation(row: Row) -> float:
    """Return the largest relative deviation of a row's seeds from their budget."""
    spent = BUDGETS[row.budgets[0]["held"]].spent(row)
    return max(abs(found / budget["amount"] - 1) for found, budget in zip(spent, row.budgets, strict=True))
