"""The numbers of a table: one row a pipeline and setting, joined from records and measurements, over all seeds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eval.session import measured
from eval.statistics import Comparison, Estimate, compare, estimate, holm
from recipes.config import read_json

RIVALS = {"dpo": "orpo", "orpo": "dpo"}
NAMES = {"base": "base model", "sft": "SFT", "dpo": "SFT → DPO", "orpo": "ORPO", "rlhf": "SFT → RLHF"}
WIN = "win rate"


@dataclass
class Row:
    """One pipeline under one setting; arrays have shape (seeds, prompts or pairs)."""

    pipeline: str
    setting: str
    stages: list[str]
    seeds: list[int]
    outcomes: dict[str, np.ndarray]  # what pipelines are compared by: `WIN`, and what is right or wrong
    scored_by: str  # what a win is decided by
    values: dict[str, Any] = field(default_factory=dict)  # name -> Estimate, number, or None where not measured
    against: dict[str, dict[str, Comparison]] = field(default_factory=dict)  # outcome -> other pipeline -> as we see it

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
            if job["errors"]:
                place = f"{setting} seed={job['seed']}".strip()
                lines.append(f"Missing at {place}: {', '.join(names) or 'all'} ({'; '.join(job['errors'])}).")
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
        groups.setdefault(tuple(job["overrides"]), []).append(job)
    shared = set.intersection(*(set(words) for words in groups)) if groups else set()
    for words, group in groups.items():
        yield " ".join(word for word in words if word not in shared), group


def build_row(name: str, setting: str, jobs: list[dict[str, Any]]) -> Row:
    """Join one pipeline's measurements and records over its seeds."""
    directories = [[job["base"]] if name == "base" else job["pipelines"][name] for job in jobs]
    results = [
        read_json(measured(Path(stages[-1]), job["evaluation"])) for stages, job in zip(directories, jobs, strict=True)
    ]
    records = [[read_json(Path(stage, "record.json")) for stage in stages] for stages in directories]
    outcomes, scored_by = compared_by(results)
    stages = [] if name == "base" else [record["stage"] for record in records[0]]
    row = Row(name, setting, stages, [job["seed"] for job in jobs], outcomes, scored_by)
    row.values = quality(results) | (cost(records) if name != "base" else {})
    return row


def compared_by(results: list[dict[str, Any]]) -> tuple[dict[str, np.ndarray], str]:
    """Return what pipelines are compared by, and what decides a win: gold rewards where there are any, else ranks."""
    ranked = ranked_right(results)
    if "gold" not in results[0]["sampled"][0]:
        return {WIN: ranked}, "held-out pairs ranked right by mean log-prob"
    right = answers(results, "greedy", "right")
    outcomes = {WIN: answers(results, "sampled", "gold"), "right fact, greedy": right, "pairs ranked right": ranked}
    return outcomes, "gold reward of the answers at temperature 1"


def answers(results: list[dict[str, Any]], kind: str, key: str) -> np.ndarray:
    """Return one number of every answer, shape (seeds, prompts)."""
    return np.array([[answer[key] for answer in result[kind]] for result in results], dtype=float)


def log_probs(results: list[dict[str, Any]], key: str) -> np.ndarray:
    """Return the mean log-probs of the held-out answers, shape (seeds, pairs)."""
    return np.array([result[key] for result in results])


def ranked_right(results: list[dict[str, Any]]) -> np.ndarray:
    """Return 1 where the chosen answer is the likelier one per token."""
    return (log_probs(results, "chosen") > log_probs(results, "rejected")).astype(float)


def quality(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is measured of a model."""
    gold = "gold" in results[0]["sampled"][0]
    chosen, rejected = log_probs(results, "chosen"), log_probs(results, "rejected")
    return {
        "gold reward, temperature 1": estimate(answers(results, "sampled", "gold")) if gold else None,
        "gold reward, greedy": estimate(answers(results, "greedy", "gold")) if gold else None,
        "right fact, greedy": estimate(answers(results, "greedy", "right")) if gold else None,
        "log-prob of chosen": estimate(chosen),
        "log-prob of rejected": estimate(rejected),
        "gap, chosen - rejected": estimate(chosen - rejected),
        "pairs ranked right": estimate(ranked_right(results)),
        "stopped by itself": float(answers(results, "sampled", "stopped").mean()),
        "mean length, tokens": float(answers(results, "sampled", "tokens").mean()),
    }


def cost(records: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what a pipeline cost: sums over its stages, the mean over seeds; memory is the largest of its stages."""

    def total(key: str) -> float:
        return float(np.mean([sum(record[key] for record in stages) for stages in records]))

    engines = dict.fromkeys(record.get("engine", "TRL") for stages in records for record in stages)
    return {
        "engine": ", ".join(engines),
        "device-seconds": total("device_seconds"),
        "peak memory, GB": max(record["peak_memory_bytes"] for stages in records for record in stages) / 1e9,
        "tokens": total("tokens"),
        "tokens computed": total("computed_tokens"),
        "forward passes per pair": total("forward_passes_per_pair"),
        "FLOPs": total("flops"),
    }


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values."""
    values = {key: asdict(value) if isinstance(value, Estimate) else value for key, value in row.values.items()}
    against = {
        outcome: {other: asdict(found) | {"verdict": found.verdict} for other, found in rivals.items()}
        for outcome, rivals in row.against.items()
    }
    return {
        **{"pipeline": NAMES.get(row.pipeline, row.pipeline), "setting": row.setting, "stages": row.stages},
        **{"seeds": row.seeds, "scored_by": row.scored_by},
        **values,
        "against": against,
    }
