"""A comparison as one JSON object with a published schema, docs/results.schema.json, for other programs to read."""

from pathlib import Path
from typing import Any

from eval.results import across
from eval.results.history import Training
from eval.results.matrix import explain
from eval.results.row import Row
from eval.results.row_json import as_json
from eval.results.rows import FORMAT, missing
from eval.results.scope import scope
from eval.results.table import answer, notes
from recipes.system.versions import provenance


def results(session: Path, rows: list[Row], jobs: list[dict[str, Any]], found: list[Training]) -> dict[str, Any]:
    """Return the whole table, with the record of every stage."""
    return {
        "format": FORMAT,
        "session": session.name,
        "written": provenance(),
        "headline": answer(rows),
        "scope": scope(rows, jobs),
        "rows": [as_json(row) for row in rows],
        "across_models": across.as_json(rows),
        "stages": [{"directory": str(training.directory), "record": training.record} for training in found],
        "notes": [*notes(rows), *explain(rows)],
        "missing": missing(jobs),
    }
