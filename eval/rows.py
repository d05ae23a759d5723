"""The numbers of a table: one row a pipeline and setting, joined from records and measurements, over all seeds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.session import measured
from eval.statistics import Estimate, estimate, verdict, win_rate
from recipes.config import read_json

RIVALS = {"dpo": "orpo", "orpo": "dpo"}
NAMES = {"base": "base model", "sft": "SFT", "dpo": "SFT → DPO", "orpo": "ORPO", "rlhf": "SFT → RM → RLOO"}


@dataclass
class Row:
    """One pipeline under one setting; arrays have shape (seeds, prompts or pairs)."""

    pipeline: str
    setting: str
    stages: list[str]
    seeds: list[int]
    scores: np.ndarray  # gold reward of sampled answers; else whether each held-out pair is ranked right
    scored_by: str
    values: dict[str, Any] = field(default_factory=dict)  # name -> Estimate, number, or None where not measured

    def compare(self, name: str, other: "Row | None") -> None:
        """Add the win rate against another row of the same setting, over the seeds of both, and its verdict."""
        common = [seed for seed in self.seeds if other is not None and seed in other.seeds]
        if other is not None and other is not self and common:
            ours, theirs = (row.scores[[row.seeds.index(seed) for seed in common]] for row in (self, other))
            self.values[name] = win_rate(ours, theirs)
            self.values[f"{name}: verdict"] = verdict(self.values[name])


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
        for name, row in found.items():
            row.compare("win rate against SFT", found.get("sft"))
            row.compare("win rate against the other pipeline", found.get(RIVALS.get(name, "")))
        rows += found.values()
    return rows


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
    scores, scored_by = primary(results)
    stages = [] if name == "base" else [record["stage"] for record in records[0]]
    row = Row(name, setting, stages, [job["seed"] for job in jobs], scores, scored_by)
    row.values = quality(results) | (cost(records) if name != "base" else {})
    return row


def primary(results: list[dict[str, Any]]) -> tuple[np.ndarray, str]:
    """Return the scores that win rates compare: gold rewards where there are any, else pairs ranked right."""
    if "gold" in results[0]["sampled"][0]:
        return answers(results, "sampled", "gold"), "gold reward of the answers at temperature 1"
    return ranked_right(results), "held-out pairs ranked right by mean log-prob"


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
    return {
        **{"pipeline": NAMES.get(row.pipeline, row.pipeline), "setting": row.setting, "stages": row.stages},
        **{"seeds": row.seeds, "scored_by": row.scored_by},
        **values,
    }
