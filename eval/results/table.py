"""A session's table on the terminal, in Markdown and as JSON: the answer first, its scope, and then the figures."""

from collections.abc import Iterable
from pathlib import Path

from eval.answers.votes import votes_on
from eval.results import across, across_text, people
from eval.results.best import best_settings, budgets, is_sweep
from eval.results.carried import carried_over
from eval.results.cells import LOWER, cells, markdown, title
from eval.results.deciding import scored_by
from eval.results.effects import stage_or_loss, told
from eval.results.headline import headline
from eval.results.matrix import explain, matrices, tests
from eval.results.metrics import STOPPED
from eval.results.row import Row
from eval.results.row_json import as_json
from eval.results.rows import FORMAT, build_rows, missing
from eval.results.scope import scope, subjects
from eval.results.session import evaluated, jobs_of
from eval.results.terminal import LEGEND, say, show
from recipes.config import UserError, write_json, write_text
from recipes.system.commands import output


def write_table(session: Path) -> list[Row]:
    """Print a session's table, write it as table.md and table.json beside the session's jobs, and return its rows.

    Raises:
        UserError: no job trained anything, or nothing was evaluated.
    """
    rows, jobs = rows_of(session), jobs_of(session)
    plain = [as_json(row) for row in rows]
    first, limits, gaps = answer(rows), scope(rows, jobs), missing(jobs)
    said = [*notes(rows), *explain(rows)]
    parts = [(subjects(jobs), cells(rows)), *matrices(rows)]
    if is_sweep(rows):
        parts.append((budgets(rows), best_settings(rows)))
    output.print(first[0], style="bold", soft_wrap=not output.is_terminal)
    say([*first[1:], *limits, *gaps, *cautions(rows)])
    if not show(parts):
        say([f"{LEGEND}."])
    top = [f"**{first[0]}**", *first[1:], " ".join(limits), *gaps]
    tables = [*parts, *across_text.sections(rows), *stage_or_loss(rows), *carried_over(rows)]
    text = [line for name, lines in tables for line in [f"**{name}**", "", *markdown(lines), ""]]
    pairs = ["", *markdown(tests(rows))] if len(parts) > 1 else []
    write_text(session / "table.md", "\n".join(["\n\n".join(top), "", *text, *said, *pairs, ""]))
    effects = [{"title": name, "lines": lines} for name, lines in stage_or_loss(rows)]
    kept = {"format": FORMAT, "rows": plain, "scope": limits, "missing": gaps, "effects": effects}
    write_json(session / "table.json", kept | {"across_models": across.as_json(rows)})
    output.print(f"all figures, with intervals, tests and how to read them: {session}/table.md", soft_wrap=True)
    return rows


def answer(rows: list[Row]) -> list[str]:
    """Return the answer in sentences: across models, of each setting, on the stage and the loss; then what to do."""
    return [*across_text.told(rows), *headline([as_json(row) for row in rows]), *told(rows)]


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


def cautions(rows: list[Row]) -> Iterable[str]:
    """Say where there are too few seeds to know their spread, or fewer for some pipelines."""
    seeds = sorted({seed for row in rows for seed in row.seeds})
    few = [f"{title(row)} (seed {', '.join(map(str, row.seeds))})" for row in rows if sorted(row.seeds) != seeds]
    if few:
        yield f"Fewer seeds, with win rates over the common ones: {'; '.join(few)}."
    if len(seeds) == 2:
        yield "Two seeds are too few to estimate their spread: use at least three."


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
    return [
        *cautions(rows),
        f"Brackets: 95% interval, {interval}. Win rates: {scored_by(rows[0])}. A tie counts half.",
        *regressions(rows),
        "Log-probs: nats per token of held-out responses. Cost: training loop only, summed over the stages; of tokens "
        "computed, padding counts, and a prompt that two responses share counts once.",
        "Rows about endings and lengths: of the responses at temperature 1; max_new_tokens is the data set's.",
        *cost_notes(rows),
        *people.notes(rows),
        *across_text.notes(rows),
    ]


def cost_notes(rows: list[Row]) -> Iterable[str]:
    """Say what peak memory is of, where it is not what GPUs had allocated, and which costs an older version counted."""
    records = [record for row in rows for stages in row.records for record in stages]
    if any("memory_before_bytes" in record for record in records):
        yield "Peak memory on a CPU: what loading the model and training added to a process with its libraries."
    if any("attended" not in record for record in records):
        yield (
            "Stages trained by an older version keep the costs that it recorded: FLOPs without attention and with "
            "embedding look-ups, and on a CPU the memory of the whole process."
        )


def regressions(rows: list[Row]) -> Iterable[str]:
    """Say what the mark of a regression means, and among how many differences it was found."""
    tested = [found.family for row in rows for others in row.differences.values() for found in others.values()]
    if tested:
        yield (
            f"{LOWER}: surely worse than the pipelines named after it, by the paired difference; p below 5% after Holm "
            f"over the {max(tested)} differences of a setting: every pair of pipelines, by the rows with an arrow and "
            "an interval, except win rates and what decides them."
        )
