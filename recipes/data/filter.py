"""What the data set's policies make of what was found: which rows are trained on, and a count of all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recipes.config import UserError
from recipes.data.findings import REASONS
from recipes.data.tokenize import Split
from recipes.profiles import DROP, REFUSE, TRUNCATE, Dataset

NAMED = 10  # rows that a refusal names of each finding


@dataclass(frozen=True)
class Ruling:
    """What became of one split."""

    kept: Split
    dropped: dict[str, dict[str, Any]]  # finding -> {reason, count, rows: the first three}
    truncated: int  # kept rows that were cut to dataset.max_length


def rule(splits: dict[str, Split], dataset: Dataset) -> dict[str, Ruling]:
    """Apply the policies to every split.

    Raises:
        UserError: there are rows that a policy refuses; the line names them.
    """
    refuse(splits, dataset)
    return {name: rule_split(split, dataset) for name, split in splits.items()}


def refuse(splits: dict[str, Split], dataset: Dataset) -> None:
    """Refuse the data set for rows that the policies do not forgive."""
    faults = []
    for name, split in splits.items():
        for finding, indices in by_finding(split.findings.verdict(dataset.policies, REFUSE)).items():
            detail = split.rows[indices[0]]["detail"]
            reason = detail if finding == "malformed" else f"{REASONS[finding]}{detail and f' ({detail})'}"
            faults.append(f"{name} row {name_rows(split, indices, NAMED)} {reason} [policies.{finding}={REFUSE}]")
    if faults:
        raise UserError(
            f"{dataset.path}, {'; '.join(faults)}: fix these rows, or set dataset.policies.<finding>={DROP}"
        )


def rule_split(split: Split, dataset: Dataset) -> Ruling:
    """Drop what is to be dropped, each row for its first finding, and count it."""
    verdict = split.findings.verdict(dataset.policies, DROP)
    dropped = {
        finding: {"reason": REASONS[finding], "count": len(indices), "rows": name_rows(split, indices, 3).split(", ")}
        for finding, indices in by_finding(verdict).items()
    }
    kept = split.select([index for index in range(len(split.rows)) if index not in verdict])
    truncated = len(kept.findings.of("overlong")) if dataset.policies.overlong in TRUNCATE else 0
    return Ruling(kept, dropped, truncated)


def by_finding(verdict: dict[int, str]) -> dict[str, list[int]]:
    """Turn row -> finding round."""
    found: dict[str, list[int]] = {}
    for index, finding in sorted(verdict.items()):
        found.setdefault(finding, []).append(index)
    return found


def name_rows(split: Split, indices: Sequence[int], many: int) -> str:
    """Return the source's row numbers (from 1), with the source's name in a mixture; `many` of them at most."""
    mixed = len(set(split.rows["source"])) > 1
    rows = [split.rows[index] for index in indices[:many]]
    names = [f"{row['source']} {row['row'] + 1}" if mixed else str(row["row"] + 1) for row in rows]
    return ", ".join(names + ["…"] * (len(indices) > many))
