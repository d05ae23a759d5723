"""Apply the data set's policies to its findings: select the rows to train on, and count all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recipes.config import UserError
from recipes.data.findings import REASONS
from recipes.data.tokenize import Split
from recipes.profiles import DROP, REFUSE, TRUNCATE, Dataset

NAMED = 10  # rows that an error names per finding


@dataclass(frozen=True)
class Ruling:
    """The outcome for one split."""

    kept: Split
    dropped: dict[str, dict[str, Any]]  # finding -> {reason, count, rows: the first three}
    truncated: int  # kept rows that were truncated to dataset.max_length


def rule(splits: dict[str, Split], dataset: Dataset) -> dict[str, Ruling]:
    """Apply the policies to every split.

    Raises:
        UserError: a policy refuses rows; the message names them.
    """
    refuse(splits, dataset)
    return {name: rule_split(split, dataset) for name, split in splits.items()}


def refuse(splits: dict[str, Split], dataset: Dataset) -> None:
    """Reject the data set if it has rows that a policy refuses."""
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
    """Drop rows by policy, each for its first finding, and count them."""
    verdict = split.findings.verdict(dataset.policies, DROP)
    dropped = {
        finding: {"reason": REASONS[finding], "count": len(indices), "rows": name_rows(split, indices, 3).split(", ")}
        for finding, indices in by_finding(verdict).items()
    }
    kept = split.select([index for index in range(len(split.rows)) if index not in verdict])
    truncated = len(kept.findings.of("overlong")) if dataset.policies.overlong in TRUNCATE else 0
    return Ruling(kept, dropped, truncated)


def by_finding(verdict: dict[int, str]) -> dict[str, list[int]]:
    """Invert row -> finding."""
    found: dict[str, list[int]] = {}
    for index, finding in sorted(verdict.items()):
        found.setdefault(finding, []).append(index)
    return found


def name_rows(split: Split, indices: Sequence[int], many: int) -> str:
    """Return the source's row numbers (from 1), with the source's name in a mixture; at most `many`."""
    mixed = len(set(split.rows["source"])) > 1
    rows = [split.rows[index] for index in indices[:many]]
    names = [f"{row['source']} {row['row'] + 1}" if mixed else str(row["row"] + 1) for row in rows]
    return ", ".join(names + ["…"] * (len(indices) > many))
