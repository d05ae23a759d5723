"""The numbers of a table: one row a pipeline and setting, joined from records and measurements, over all seeds."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from eval.results.metrics import METRICS, outcomes, scored_by, scores
from eval.results.row import Row, Value
from eval.results.session import evaluated, read_record, read_result
from eval.results.statistics import Comparison, Estimate, compare, holm

FORMAT = 2  # of table.json and results.json: raised whenever a program that reads an older file would misread this one

RIVALS = {"dpo": "orpo", "orpo": "dpo"}
NAMES = {"base": "base model", "sft": "SFT", "dpo": "SFT → DPO", "orpo": "ORPO", "rlhf": "SFT → RM → RLOO"}


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
        rows += found.values()
    for row in rows:
        row.values = {metric.key: metric.value(row) for metric in METRICS}
    return rows


def compare_rows(rows: list[Row]) -> None:
    """Compare every pair of a setting's pipelines over their common seeds, p adjusted over all pairs of an outcome."""
    for outcome, metric in outcomes(rows[0]).items() if rows else ():
        pairs, found = [], []
        for one, other in combinations(rows, 2):
            seeds = [seed for seed in one.seeds if seed in other.seeds]
            if seeds:
                pairs.append((one, other))
                found.append(compare(metric.of_seeds(one, seeds), metric.of_seeds(other, seeds)))
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
    results = [read_result(stages[-1], job["evaluation"]) for stages, job in zip(directories, jobs, strict=True)]
    records = [] if name == "base" else [[read_record(stage) for stage in stages] for stages in directories]
    seeds = [job["seed"] for job in jobs]
    budgets = [job["budget"] for job in jobs if job.get("budget")]
    return Row(name, setting, seeds, directories, results, records, RIVALS.get(name), budgets)


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values, under the keys of docs/results.schema.json."""
    return {
        "pipeline": row.pipeline,
        "label": NAMES.get(row.pipeline, row.pipeline),
        "setting": row.setting,
        "stages": row.stages,
        "seeds": row.seeds,
        "prompts": scores(row).shape[1],
        "scored_by": scored_by(row),
        "values": {key: plain(value) for key, value in row.values.items()},
        "against": {
            outcome: {other: asdict(found) | {"verdict": found.verdict} for other, found in rivals.items()}
            for outcome, rivals in row.against.items()
        },
    }


def plain(value: Value) -> Any:
    """Return a metric's value as JSON has it: an estimate by its parts, a win rate with its verdict."""
    if isinstance(value, Comparison):
        return asdict(value.rate) | {"verdict": value.verdict}
    return asdict(value) if isinstance(value, Estimate) else value
