"""The main figures of a session's table.json in Markdown, for the README and the pages of docs/."""

from collections.abc import Sequence
from typing import Any

from eval.results.cells import LOWER, markdown
from eval.results.headline import headline
from eval.results.matrix import ABSENT, probability
from eval.results.metric import GROUPS, Metric, percent
from eval.results.metrics import FLOPS, METRIC, SECONDS, WIN
from eval.results.rows import NAMES, place
from eval.results.statistics import NONE, WORSE
from recipes.config import UserError

EACH = ("right_greedy", "length", "kl")  # rows that docs/methods.md shows of every pipeline
# Rows that the README shows of a real model.
FEW_ROWS = (
    *("win_rate_over_rival", "win_rate_over_sft", "gold_sampled", "judge_accuracy", "text_loss", "forgetting", "flops"),
)


def in_short(table: dict[str, Any]) -> str:
    """Return the README's block on a real model: the answer, its scope, and few rows."""
    rows = of_one_setting(table)
    return "\n\n".join("\n".join(part) for part in [*told(rows, table), markdown(lines(rows, FEW_ROWS))])


def told(rows: list[dict[str, Any]], table: dict[str, Any]) -> list[list[str]]:
    """Return the answer and its scope, with which every page begins."""
    first, *further = headline(rows)
    return [[f"**{first}** {' '.join(further)}".rstrip()], table.get("scope", [])]


def shown(table: dict[str, Any], keys: Sequence[str], rest: str) -> str:
    """Return a page's block for a table.json: the answer, the table, the matrix of win rates, and notes.

    `keys` are the metrics of the table's rows, and `rest` is the last line.

    Raises:
        UserError: the rows have several settings, and the README has room for one.
    """
    rows = of_one_setting(table)
    trained = [row for row in rows if row["stages"]]
    said = (
        "How often the row's response beats the column's (a tie counts half), with its p-value after Holm correction "
        "over all pairs:"
    )
    parts = [*told(rows, table), markdown(lines(rows, keys))]
    parts += [[costs(trained)], [said], markdown(matrix(trained)), *effects(table), [note(trained), rest]]
    return "\n\n".join("\n".join(part) for part in parts if part)


def of_one_setting(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a table's rows in order.

    Raises:
        UserError: they have several settings, and a page has room for one.
    """
    rows = sorted(table["rows"], key=lambda row: place(row["pipeline"], row["stages"]))
    settings = [row["setting"] for row in rows if row["stages"]]
    if any(setting != settings[0] for setting in settings):
        raise UserError("the page shows one setting: name a session that swept nothing but the seed")
    return rows


def every_method(table: dict[str, Any]) -> str:
    """Return the block of docs/methods.md for a table.json: the answer, a line for each pipeline, and the effects.

    Raises:
        UserError: the rows have several settings.
    """
    rows = [row for row in of_one_setting(table) if row["stages"]]
    head = ["", "win rate against SFT → DPO", "against SFT", *(METRIC[key].title for key in EACH), "FLOPs, times SFT's"]
    sft = next(row for row in rows if row["pipeline"] == "sft")
    figures = [
        [
            row["label"],
            *(wins(row, other) for other in ({"pipeline": "dpo"}, sft)),
            *(cell(METRIC[key], row) for key in EACH),
            f"{row['values'][FLOPS.key] / sft['values'][FLOPS.key]:.2f}",
        ]
        for row in rows
    ]
    parts = [*told(rows, table), markdown([head, *figures]), *effects(table)]
    parts.append(["All rows and tests: [all-methods.md](all-methods.md)."])
    return "\n\n".join("\n".join(part) for part in parts if part)


def effects(table: dict[str, Any]) -> list[list[str]]:
    """Return the lines of what the stage and what the loss did, with a title for each design; none in most tables."""
    return [[f"**{found['title']}**", "", *markdown(found["lines"])] for found in table.get("effects", [])]


def lines(rows: list[dict[str, Any]], keys: Sequence[str]) -> list[list[str]]:
    """Return the table's lines, head first, under the headings of their groups."""
    metrics = [METRIC[key] for key in keys if any(row["values"].get(key) is not None for row in rows)]
    found = [["", *(row["label"] for row in rows)]]
    for name in GROUPS:
        group = [[metric.title, *(cell(metric, row) for row in rows)] for metric in metrics if metric.group == name]
        found += [[name], *group] if group else []
    return found


def cell(metric: Metric, row: dict[str, Any]) -> str:
    """Return one cell; an estimate's interval goes below it, so that five columns fit a page's width."""
    value = row["values"].get(metric.key)
    if value is None:
        return ABSENT
    if not isinstance(value, dict):
        return metric.text(value)
    mean, low, high = (metric.text(value[part]) for part in ("mean", "low", "high"))
    lost = {} if row["pipeline"] == "sft" else row.get("differences", {}).get(metric.key, {})
    marks = [f"<br>{LOWER} {NAMES.get(other, other)}" for other, found in lost.items() if found["verdict"] == WORSE]
    return f"{mean} {value.get('verdict', '')}".rstrip() + f"<br>[{low}, {high}]" + "".join(marks)


def matrix(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return how often the row's response beats the column's, head first, with verdict and p."""
    head = ["row over column", *(row["label"] for row in rows)]
    return [head, *([row["label"], *(wins(row, column) for column in rows)] for row in rows)]


def wins(row: dict[str, Any], column: dict[str, Any]) -> str:
    """Return one cell of the matrix."""
    found = against(row, column)
    if not found:
        return ABSENT
    rate = percent(found["rate"]["mean"])
    return rate if found["verdict"] == NONE else f"{rate} {found['verdict']}<br>{probability(found['adjusted'])}"


def against(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """Return one pipeline's comparison with another by their responses; None with itself."""
    return row["against"].get(WIN, {}).get(other["pipeline"])


def costs(rows: list[dict[str, Any]]) -> str:
    """Return each pipeline's cost, relative to SFT's if it is there."""
    *rest, first = rows
    told = "; ".join(f"{row['label']} {times(row, first)}" for row in rest)
    return f"**Training cost**, relative to {first['label']} alone: {told}."


def times(row: dict[str, Any], first: dict[str, Any]) -> str:
    """Return a pipeline's costs as multiples of the first one's."""
    flops, seconds = (f"{row['values'][cost.key] / first['values'][cost.key]:.2f}" for cost in (FLOPS, SECONDS))
    return f"{flops} times the FLOPs and {seconds} times the device-seconds"


def note(rows: list[dict[str, Any]]) -> str:
    """Return a note on what the figures cover."""
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    return (
        f"{rows[0]['prompts']} held-out prompts, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; "
        "brackets are 95% intervals, log-probs are in nats per token, costs cover training only. "
        f"{LOWER}: surely worse than the pipelines named after it.\n"
    )
