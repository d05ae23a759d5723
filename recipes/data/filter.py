"""Apply the data set's policies to its findings: select the rows to train on, and count all others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.config import UserError
from recipes.data.findings import REASONS
from recipes.data.tokenize import Split
from recipes.profiles import DROP, REFUSE, TRUNCATE, Dataset

NAMED = 10  # rows that an error names per kind of finding
KINDS = 8  # kinds of one finding that are distinguished
WHY = {"malformed": "detail", "unrendered": "detail", "ignored": "ignored"}  # the columns that say what is wrong
NOTED = ("system_lost", "ignored", "rendered")  # findings that are named even where their rows are kept


@dataclass(frozen=True)
class Ruling:
    """The outcome for one split."""

    kept: Split
    dropped: dict[str, dict[str, Any]]  # finding -> {reason, count, rows: the first three}
    truncated: int  # kept rows that were truncated to dataset.max_length
    noted: dict[str, dict[str, Any]]  # as `dropped`, of rows that are kept although something of them is lost


def rule(splits: dict[str, Split], dataset: Dataset) -> dict[str, Ruling]:
    """Apply the policies to every split.

    Raises:
        UserError: a policy refuses rows; the message names them.
    """
    refuse(splits, dataset)
    return {name: rule_split(split, dataset) for name, split in splits.items()}


def refuse(splits: dict[str, Split], dataset: Dataset) -> None:
    """Reject the data set if it has rows that a policy refuses."""
    faults = [fault for name, split in splits.items() for fault in refusals(name, split, dataset)]
    if faults:
        refused = {name: split.findings.verdict(dataset.policies, REFUSE) for name, split in splits.items()}
        whole = [name for name, rows in refused.items() if 1 < len(splits[name].rows) == len(rows)]
        advice = remedy({finding for rows in refused.values() for finding in rows.values()})
        if whole:  # to drop them would leave nothing
            advice = f"all rows of {whole[0]} are affected: check its columns, and the model's chat template"
        raise UserError(f"{dataset.path}, {'; '.join(faults)}: {advice}")


def refusals(name: str, split: Split, dataset: Dataset) -> list[str]:
    """Return a line for every kind of row in a split that a policy refuses: its rows, what is wrong, the policy."""
    verdict = by_finding(split.findings.verdict(dataset.policies, REFUSE))
    return [
        f"{name} row {name_rows(split, rows, NAMED)} {reason} [policies.{finding}={REFUSE}]"
        for finding, indices in verdict.items()
        for reason, rows in kinds(split, finding, indices).items()
    ]


def remedy(findings: Iterable[str]) -> str:
    """Return what to do about rows with these findings that a policy refuses."""
    options = " and ".join(f"dataset.policies.{finding}={DROP}" for finding in REASONS if finding in findings)
    return f"fix these rows, or set {options}"


def kinds(split: Split, finding: str, indices: Sequence[int]) -> dict[str, list[int]]:
    """Group the rows of a finding by what exactly is wrong; what is left after `KINDS` kinds is one more."""
    column = WHY.get(finding)
    reasons = list(split.rows.select(indices)[column]) if column else [""] * len(indices)
    found: dict[str, list[int]] = {}
    for index, detail in zip(indices, reasons, strict=True):
        reason = detail if finding == "malformed" else f"{REASONS[finding]}{detail and f' ({detail})'}"
        reason = reason if reason in found or len(found) < KINDS else "has another problem"
        found.setdefault(reason, []).append(index)
    return found


def rule_split(split: Split, dataset: Dataset) -> Ruling:
    """Drop rows by policy, each for its first finding, and count them."""
    verdict = split.findings.verdict(dataset.policies, DROP)
    dropped = {finding: counted(split, finding, indices) for finding, indices in by_finding(verdict).items()}
    kept = split.select([index for index in range(len(split.rows)) if index not in verdict])
    truncated = len(kept.findings.of("overlong")) if dataset.policies.overlong in TRUNCATE else 0
    noted = {
        finding: counted(kept, finding, kept.findings.of(finding)) for finding in NOTED if kept.findings.of(finding)
    }
    return Ruling(kept, dropped, truncated, noted)


def counted(split: Split, finding: str, indices: list[int]) -> dict[str, Any]:
    """Return how many rows have a finding, why, and the first three."""
    reasons = [*kinds(split, finding, indices)] if finding in NOTED else [REASONS[finding]]
    return {"reason": "; ".join(reasons), "count": len(indices), "rows": name_rows(split, indices, 3).split(", ")}


def by_finding(verdict: dict[int, str]) -> dict[str, list[int]]:
    """Invert row -> finding."""
    found: dict[str, list[int]] = {}
    for index, finding in sorted(verdict.items()):
        found.setdefault(finding, []).append(index)
    return found


def name_rows(split: Split, indices: Sequence[int], many: int) -> str:
    """Return the source's row numbers (from 1), with the source's name in a mixture; at most `many`."""
    mixed = len(split.rows.unique("source")) > 1
    rows = split.rows.select_columns(["source", "row"]).select(indices[:many])
    names = [f"{row['source']} {row['row'] + 1}" if mixed else str(row["row"] + 1) for row in rows]  # type: ignore[index]
    return ", ".join(names + ["…"] * (len(indices) > many))
