"""The table as text: pipelines side by side, the candidates first, in groups of rows."""

from eval.results.metric import GROUPS, Metric
from eval.results.metrics import METRICS
from eval.results.row import Row
from eval.results.rows import NAMES, arranged
from eval.results.statistics import ABSENT, WORSE, Comparison, Estimate

LOWER = "▼"  # before the names of pipelines that are surely better
COLUMNS = 6  # with more pipelines than that each has a line instead


def cells(rows: list[Row]) -> list[list[str]]:
    """Return the table as text, head first: one column per pipeline if they are few, else one line per pipeline.

    A line of a single cell is the heading of a group; where each pipeline has a line there are none.
    """
    rows = arranged(rows)
    head = [["", *map(title, rows)], ["stages", *(" → ".join(row.stages) or ABSENT for row in rows)]]
    measured = [metric for metric in METRICS if any(row.values[metric.key] is not None for row in rows)]
    groups = {
        name: [[metric.title, *(text(metric, row) for row in rows)] for metric in measured if metric.group == name]
        for name in GROUPS
    }
    if len(rows) > COLUMNS:
        return [list(line) for line in zip(*head, *(line for lines in groups.values() for line in lines), strict=True)]
    return [*head, *(line for name, lines in groups.items() if lines for line in ([name], *lines))]


def title(row: Row) -> str:
    """Return the head of a row's column."""
    return f"{NAMES.get(row.pipeline, row.pipeline)} {row.setting}".strip()


def text(metric: Metric, row: Row) -> str:
    """Return one cell: a number, or an estimate with its interval and a win rate's verdict or who is surely better."""
    value = row.values[metric.key]
    if value is None:
        return ABSENT
    if isinstance(value, str):
        return value
    if isinstance(value, Comparison):
        return f"{interval(metric, value.rate)} {value.verdict if value.asked else ''}".rstrip()
    if isinstance(value, Estimate):
        return f"{interval(metric, value)} {beaten(metric, row)}".rstrip()
    return metric.text(value)


def beaten(metric: Metric, row: Row) -> str:
    """Return the mark of a candidate's regression: the pipelines that are surely better in a metric."""
    found = {} if row.pipeline == "sft" else row.differences.get(metric.key, {})
    better = sorted((other for other, one in found.items() if one.verdict == WORSE), key=lambda other: other == "sft")
    names = [NAMES.get(other, other) for other in better]
    return f"{LOWER} {', '.join(names)}" if names else ""


def interval(metric: Metric, found: Estimate) -> str:
    """Return an estimate as text: the mean, the spread over seeds if there are several, and the interval."""
    spread = f" ± {metric.text(found.spread)}" if found.spread is not None else ""
    return f"{metric.text(found.mean)}{spread} [{metric.text(found.low)}, {metric.text(found.high)}]"


def markdown(lines: list[list[str]]) -> list[str]:
    """Return a table, head first, in Markdown; a line of a single cell is a heading."""
    width = len(lines[0])
    rule = ["---", *("---:" for _ in lines[0][1:])]
    full = [line if len(line) > 1 else [f"**{line[0]}**", *[""] * (width - 1)] for line in (lines[0], rule, *lines[1:])]
    return ["| " + " | ".join(line) + " |" for line in full]
