"""The numbers of a table: one row a pipeline and setting, joined from records and measurements, over all seeds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eval.results.metrics import WIN, compared_by, cost, log_probs, quality, spent
from eval.results.session import evaluated, measured, read_measured, read_record
from eval.results.statistics import Comparison, Estimate, compare, holm

RIVALS = {"dpo": "orpo", "orpo": "dpo"}
NAMES = {"base": "base model", "sft": "SFT", "dpo": "SFT → DPO", "orpo": "ORPO", "rlhf": "SFT → RM → RLOO"}


@dataclass
class Row:
    """One pipeline under one setting; arrays have shape (seeds, prompts or pairs)."""

    pipeline: str
    setting: str
    stages: list[str]
    seeds: list[int]
    directories: list[list[Path]]  # of each seed: its stages in order
    outcomes: dict[str, np.ndarray]  # what pipelines are compared by: `WIN`, and what is right or wrong
    scored_by: str  # what a win is decided by
    log_probs: dict[str, np.ndarray]  # of the chosen and rejected held-out answers
    spent: dict[str, np.ndarray]  # what training cost, shape (seeds,); nothing for a base model
    values: dict[str, Any] = field(default_factory=dict)  # name -> Estimate, number, or None where not measured
    against: dict[str, dict[str, Comparison]] = field(default_factory=dict)  # outcome -> other pipeline -> as we see it
    budgets: list[dict[str, Any]] = field(default_factory=list)  # of each seed: what the pipelines were trained to

    @property
    def scores(self) -> np.ndarray:
        """What wins are decided by: the gold reward of sampled answers, else whether a pair is ranked right."""
        return self.outcomes[WIN]

    def over(self, seeds: list[int], outcome: str) -> np.ndarray:
        """Return an outcome of some of the row's seeds."""
        return self.outcomes[outcome][[self.seeds.index(seed) for seed in seeds]]

    def note_win_rate(self, name: str, other: str | None) -> None:
        """Add the win rate against another pipeline of the setting, and its verdict, where they were compared."""
        found = self.against.get(WIN, {}).get(other or "")
        if found:
            self.values |= {name: found.rate, f"{name}: verdict": found.verdict}


def build_rows(jobs: list[dict[str, Any]]) -> list[Row]:
    """Return a session's rows: every base model, and under each setting (all overrides but the seed) its pipelines."""
    rows: list[Row] = []
    bases = by_base(jobs)
    for setting, group in by_setting(jobs):
        for base in dict.fromkeys(job["base"] for job in group):  # of a job that failed altogether there is none
            if base in bases:
                rows.append(build_row("base", *bases.pop(base)))
        names = dict.fromkeys(name for job in group for name in job["pipelines"])
        found = {name: build_row(name, setting, [job for job in group if name in job["pipelines"]]) for name in names}
        compare_rows(list(found.values()))
        for name, row in found.items():
            row.note_win_rate("win rate against SFT", "sft")
            row.note_win_rate("win rate against the other pipeline", RIVALS.get(name))
        rows += found.values()
    return rows


def compare_rows(rows: list[Row]) -> None:
    """Compare every pair of a setting's pipelines over their common seeds, p adjusted over all pairs of an outcome."""
    for outcome in rows[0].outcomes if rows else ():
        pairs, found = [], []
        for one, other in combinations(rows, 2):
            seeds = [seed for seed in one.seeds if seed in other.seeds]
            if seeds:
                pairs.append((one, other))
                found.append(compare(one.over(seeds, outcome), other.over(seeds, outcome)))
        for (one, other), result in zip(pairs, holm(found), strict=True):
            one.against.setdefault(outcome, {})[other.pipeline] = result
            other.against.setdefault(outcome, {})[one.pipeline] = result.reversed()


def missing(jobs: list[dict[str, Any]]) -> list[str]:
    """Return a line for each job that did not finish all of its pipelines: which, and why."""
    lines = []
    for setting, group in by_setting(jobs):
        for job in group:
            names = [NAMES.get(name, str(name)) for name in job["wanted"] if name not in job["pipelines"]]
            if job["errors"] or names or not evaluated(job):
                place = f"{setting} seed={job['seed']}".strip()
                why = "; ".join(job["errors"]) or ("not finished yet" if names else "not evaluated yet")
                lines.append(f"Missing at {place}: {', '.join(names) or 'all'} ({why}).")
    return lines


def by_base(jobs: list[dict[str, Any]]) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Return base directory -> the overrides that its jobs have in common and others lack, and one job a seed."""
    finished = [job for job in jobs if job["pipelines"]]
    result: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    for base in dict.fromkeys(job["base"] for job in finished):
        group = [job for job in finished if job["base"] == base]
        common = [word for word in group[0]["overrides"] if all(word in job["overrides"] for job in group)]
        setting = " ".join(word for word in common if any(word not in job["overrides"] for job in finished))
        seeds: dict[int, dict[str, Any]] = {}
        for job in group:
            seeds.setdefault(job["seed"], job)
        result[base] = setting, list(seeds.values())
    return result


def by_setting(jobs: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the jobs that differ in nothing but the seed, named by the overrides that the others do not share."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for job in jobs:
        group = groups.setdefault(tuple(job["overrides"]), [])
        if job["seed"] not in [other["seed"] for other in group]:  # seed=0,0 is one model, not two
            group.append(job)
    shared = set.intersection(*(set(words) for words in groups)) if groups else set()
    for words, group in groups.items():
        yield " ".join(word for word in words if word not in shared), group


def build_row(name: str, setting: str, jobs: list[dict[str, Any]]) -> Row:
    """Join one pipeline's measurements and records over its seeds."""
    directories = [
        [Path(stage) for stage in ([job["base"]] if name == "base" else job["pipelines"][name])] for job in jobs
    ]
    results = [
        read_measured(measured(stages[-1], job["evaluation"]), ("chosen", "rejected"), ("sampled", "greedy"))
        for stages, job in zip(directories, jobs, strict=True)
    ]
    trained = name != "base"
    records = [[read_record(stage) for stage in stages] for stages in directories] if trained else []
    stages = [record["stage"] for record in records[0]] if trained else []
    seeds = [job["seed"] for job in jobs]
    outcomes, scored_by = compared_by(results)
    scores = {answer: log_probs(results, answer) for answer in ("chosen", "rejected")}
    costs = spent(records) if trained else {}
    budgets = [job["budget"] for job in jobs if job.get("budget")]
    row = Row(name, setting, stages, seeds, directories, outcomes, scored_by, scores, costs, budgets=budgets)
    row.values = quality(results) | (cost(records) if trained else {})
    return row


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values."""
    values = {key: asdict(value) if isinstance(value, Estimate) else value for key, value in row.values.items()}
    against = {
        outcome: {other: asdict(found) | {"verdict": found.verdict} for other, found in rivals.items()}
        for outcome, rivals in row.against.items()
    }
    return {
        **{"pipeline": NAMES.get(row.pipeline, row.pipeline), "setting": row.setting, "stages": row.stages},
        **{"seeds": row.seeds, "prompts": row.scores.shape[1], "scored_by": row.scored_by},
        **values,
        "against": against,
    }
