"""A row of the table as plain values."""

from dataclasses import asdict
from typing import Any

from eval.results.deciding import prompts_of, scored_by
from eval.results.row import Row, Value
from eval.results.rows import NAMES
from eval.results.statistics import Comparison, Estimate


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values, under the keys of docs/results.schema.json."""
    return {
        "pipeline": row.pipeline,
        "label": NAMES.get(row.pipeline, row.pipeline),
        "setting": row.setting,
        "stages": row.stages,
        "seeds": row.seeds,
        "prompts": prompts_of(row),
        "scored_by": scored_by(row),
        "values": {key: plain(value) for key, value in row.values.items()},
        "against": {
            outcome: {other: comparison_as_json(found) for other, found in rivals.items()}
            for outcome, rivals in row.against.items()
        },
        "differences": {
            key: {other: found.as_json() for other, found in others.items()} for key, others in row.differences.items()
        },
    }


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values; variances are of the win rate."""
    tested = asdict(found) if found.asked else asdict(found) | dict.fromkeys(("adjusted", "adjusted_same", "family"))
    variance = {
        "seeds": float(found.variance.from_seeds) if found.variance.seeds > 1 else None,
        "prompts": float(found.variance.from_prompts),
        "samples": found.from_samples,
        "clusters": found.variance.clusters,
    }
    values = {name: value for name, value in tested.items() if name not in ("from_samples", "silent", "asked")}
    detectable = found.detectable if found.asked else None
    return values | {"variance": variance, "detectable": detectable, "verdict": found.verdict}


def plain(value: Value) -> Any:
    """Return a metric's value for JSON: an estimate as its parts, a win rate with its verdict if it was to have one."""
    if isinstance(value, Comparison):
        return asdict(value.rate) | ({"verdict": value.verdict} if value.asked else {})
    return asdict(value) if isinstance(value, Estimate) else value
