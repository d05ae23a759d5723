"""A data set's diagnosis: every finding with its rows and their fate, and the statistics of each split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from doctor.lengths import PACKED, PARTS, Bias, Padding, Spread, beyond, bias, epoch, padding, sizes, spread
from doctor.texts import Languages, Turns, languages, turns
from recipes.data.filter import NAMED, Ruling, kinds, name_rows, refusals, remedy, rule_split
from recipes.data.findings import REASONS
from recipes.data.mixture import check_shares
from recipes.data.prepare import unused
from recipes.data.splits import divide, too_few
from recipes.data.tokenize import Split, examine
from recipes.data.unpaired import unpaired
from recipes.data.values import column, where
from recipes.profiles import DROP, KEEP, REFUSE, TRUNCATE, Dataset, Model

SHOWN = 3  # rows shown per finding
FATES = {DROP: "dropped", REFUSE: "refuses the data set"}
FATES |= {TRUNCATE[0]: "truncated: the prompt's beginning", TRUNCATE[1]: "truncated: the responses' ends"}


@dataclass(frozen=True)
class Found:
    """One finding in one split."""

    name: str
    reason: str
    count: int
    rows: str  # the first ten, numbered as in the source
    fate: str  # what the policy does with them
    indices: list[int]  # of the first three
    kinds: dict[str, str]  # what exactly is wrong -> all rows of that kind


@dataclass(frozen=True)
class Source:
    """One source of a mixture."""

    name: str
    rows: int
    kept: int
    used: int  # after the mixture's shares and the held-out prompts
    lengths: Spread  # of whole pairs, in tokens
    bias: Bias


@dataclass(frozen=True)
class Diagnosis:
    """One split as it was read."""

    name: str
    split: Split
    rows: int
    kept: int
    truncated: int
    refused: int
    findings: list[Found]
    sizes: np.ndarray  # of the readable rows, shape (rows, 3)
    spreads: dict[str, Spread]
    beyond: dict[int, float]
    bias: Bias
    languages: Languages
    turns: Turns
    sources: list[Source]


@dataclass(frozen=True)
class Report:
    """The doctor's whole report."""

    splits: list[Diagnosis]
    pairs: dict[str, int]  # to train and to evaluate on
    tokens: dict[str, int]  # method -> per epoch
    paddings: list[Padding]  # the first is the hardware's
    verdict: str
    healthy: bool  # whether training would begin
    unused: list[str]  # a line on columns of text that are not read, if there are any


def diagnose(
    dataset: Dataset,
    parts: Sequence[Dataset],
    model: Model,
    tokenizer: Any,
    per_device: int,
    say: Callable[[str], None],
) -> Report:
    """Examine a data set in full, even if its policies would refuse it.

    Raises:
        UserError: the data cannot be read at all, or a mixture's shares cannot be met.
    """
    check_shares(dataset)
    splits = examine(dataset, parts or [dataset], model, tokenizer, say, thorough=True)
    say("measuring")
    rulings = {name: forgive(split, dataset) for name, split in splits.items()}
    used = divide(rulings, dataset, parts)
    lengths = sizes(used["train"])
    none = {name: split.rows.select([]) for name, split in splits.items()}
    found = [describe(name, split, rulings[name], dataset, (none | used)[name]) for name, split in splits.items()]
    verdict = judge(splits, used, dataset)
    return Report(
        splits=found,
        pairs={name: len(rows) for name, rows in used.items()},
        tokens=epoch(lengths, sizes(used[unpaired("train")]) if unpaired("train") in used else lengths[:0]),
        paddings=[padding(lengths, pairs) for pairs in dict.fromkeys((per_device, *PACKED))],
        verdict=verdict or "training would begin: no policy refuses the data set",
        healthy=not verdict,
        unused=unused(splits),
    )


def forgive(split: Split, dataset: Dataset) -> Ruling:
    """Apply the policies to rows that none refuses: what would be trained on once the others are fixed or dropped."""
    refused = split.findings.verdict(dataset.policies, REFUSE)
    return rule_split(split.select([row for row in range(len(split.rows)) if row not in refused]), dataset)


def judge(splits: dict[str, Split], used: dict[str, Any], dataset: Dataset) -> str:
    """Return why training would refuse the data set, or nothing."""
    reasons = [line for name, split in splits.items() for line in refusals(name, split, dataset)]
    if reasons:
        found = {
            name for split in splits.values() for name in split.findings.verdict(dataset.policies, REFUSE).values()
        }
        reasons[-1] += f": {remedy(found)}"
    reasons += too_few(used)
    return f"training would refuse this data set: {'; '.join(reasons)}" if reasons else ""


def describe(name: str, split: Split, ruling: Ruling, dataset: Dataset, used: Any) -> Diagnosis:
    """Describe one split; statistics cover its readable rows, truncated where the policy truncates."""
    readable = split.rows.select(where(not problem for problem in column(split.rows, "problem")))
    lengths = sizes(readable)
    whole = lengths[:, 0] + lengths[:, 1:].max(axis=1, initial=0)
    columns = {part: lengths[:, place] for place, part in enumerate(PARTS)} | {"pair": whole}
    return Diagnosis(
        name=name,
        split=split,
        rows=len(split.rows),
        kept=len(ruling.kept.rows),
        truncated=ruling.truncated,
        refused=len(split.findings.verdict(dataset.policies, REFUSE)),
        findings=[find(name, split, finding, dataset) for finding in REASONS],
        sizes=lengths,
        spreads={part: spread(values[values > 0]) for part, values in columns.items()},
        beyond=beyond([*column(readable, "long")]),
        bias=bias(lengths),
        languages=languages(readable),
        turns=turns(readable),
        sources=compare(split, readable, ruling, used),
    )


def find(name: str, split: Split, finding: str, dataset: Dataset) -> Found:
    """Describe one finding."""
    indices = split.findings.of(finding)
    policy = getattr(dataset.policies, finding)
    fate = FATES.get(policy, "trained on" if name in ("train", unpaired("train")) else "evaluated on")
    if policy == KEEP:
        gone = {row for found in (DROP, REFUSE) for row in split.findings.verdict(dataset.policies, found)}
        kept = len(set(split.findings.of(finding)) - gone)
        fate = fate if kept == len(indices) else f"{kept:,} of {len(indices):,} {fate}"  # others: dropped
    rows = {reason: name_rows(split, some, len(some)) for reason, some in kinds(split, finding, indices).items()}
    return Found(finding, REASONS[finding], len(indices), name_rows(split, indices, NAMED), fate, indices[:SHOWN], rows)


def compare(split: Split, readable: Any, ruling: Ruling, used: Any) -> list[Source]:
    """Describe the sources of a mixture; a single source has nothing to compare."""
    names = list(dict.fromkeys(column(split.rows, "source")))
    lengths, origins = sizes(readable), np.array([*column(readable, "source")])
    whole = lengths[:, 0] + lengths[:, 1:].max(axis=1, initial=0)
    counts = [[*column(rows, "source")] for rows in (split.rows, ruling.kept.rows, used)]
    return [
        Source(
            name=name,
            rows=counts[0].count(name),
            kept=counts[1].count(name),
            used=counts[2].count(name),
            lengths=spread(whole[origins == name]),
            bias=bias(lengths[origins == name]),
        )
        for name in names
        if len(names) > 1
    ]
