"""The numbers of a table: one row per pipeline and setting, from records and measurements, over all seeds."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

from eval.answers.votes import Vote
from eval.results import differences
from eval.results.controlled import length_controlled
from eval.results.deciding import outcomes, weak
from eval.results.differences import Difference, differ
from eval.results.metric import Measured, percent
from eval.results.metrics import LENGTH, METRICS, PEOPLE, WIN
from eval.results.people import clusters_of, compare_by_votes, pairs_of
from eval.results.row import Row
from eval.results.session import evaluated, read_record, read_result
from eval.results.setting import Setting, shared
from eval.results.statistics import Comparison, compare, holm
from recipes.methods import METHODS

FORMAT = 2  # of table.json and results.json: increase it when a program that reads older files would misread this one

Votes = dict[str, list[Vote]]  # by the pairs that they are on
Job = dict[str, Any]  # as read by `eval.results.session.jobs_of`
# Names of pipelines; one named after a method has the method's label, unless other stages precede it.
NAMES = {"base": "base model"} | {name: method.label for name, method in METHODS.items()}
NAMES |= {f"sft_{name}": f"SFT → {method.label}" for name, method in METHODS.items()}
NAMES |= {"dpo": "SFT → DPO", "rlhf": "SFT → RM → RLOO", "dpo_alone": "DPO alone"}


def build_rows(jobs: list[Job], votes: Votes | None = None) -> list[Row]:
    """Return a session's rows: every base model, and under each setting its pipelines; `votes` by pair."""
    rows: list[Row] = []
    bases = by_base(jobs)
    for setting, group in by_setting(jobs):
        for base in dict.fromkeys(job["base"] for job in group):  # a job that failed altogether has none
            if base in bases:
                rows.append(build_row("base", *bases.pop(base)))
        names = dict.fromkeys(name for job in group for name in job["pipelines"])
        found = {name: build_row(name, setting, [job for job in group if name in job["pipelines"]]) for name in names}
        for row in found.values():
            row.compare_with = compared_with(group, found)
        compare_rows(list(found.values()))
        control_lengths(list(found.values()))
        add_votes(list(found.values()), votes or {})
        rows += found.values()
    for row in rows:
        row.values = {metric.key: metric.value(row) for metric in METRICS}
    for _, group in groupby([row for row in rows if row.stages], lambda row: row.setting):
        add_differences(list(group))
    return rows


def compared_with(jobs: list[Job], pipelines: Collection[str]) -> str | None:
    """Return the pipeline that each other one of a setting is tested against; None: all against all.

    That is also what happens where the named pipeline has failed and is not among the `pipelines`.
    """
    return next((job["compare_with"] for job in jobs if job.get("compare_with") in pipelines), None)


def compare_rows(rows: list[Row]) -> None:
    """Compare all pairs of a setting's pipelines over common seeds, with p adjusted over all pairs of an outcome.

    Where one pipeline is named that each other one is tested against, only those pairs have a verdict.
    """
    for outcome, metric in outcomes(rows[0]).items() if rows else ():
        found = []
        for one, other in combinations(rows, 2):
            seeds = [seed for seed in one.seeds if seed in other.seeds]
            if seeds:
                result = compare(metric.of_seeds(one, seeds), metric.of_seeds(other, seeds), metric.clusters(one))
                found.append((one, other, replace(result, silent=outcome == WIN and weak(one))))
        keep(outcome, found)


def control_lengths(rows: list[Row]) -> None:
    """Estimate for all pairs of a setting's pipelines what their win rate would be at equal lengths."""
    decides = outcomes(rows[0]).get(WIN) if rows else None
    for one, other in combinations(rows, 2) if decides else ():
        seeds = [seed for seed in one.seeds if seed in other.seeds]
        if seeds and decides:
            ours, theirs = (decides.of_seeds(row, seeds) for row in (one, other))
            longer = LENGTH.of_seeds(one, seeds) - LENGTH.of_seeds(other, seeds)
            found = length_controlled((ours > theirs) + 0.5 * (ours == theirs), longer, decides.clusters(one))
            one.controlled[other.pipeline], other.controlled[one.pipeline] = found, found.reversed()


def add_votes(rows: list[Row], votes: Votes) -> None:
    """Compare every pair of a setting's pipelines that people voted on."""
    found = []
    for one, other in combinations(rows, 2) if votes else ():
        judged = [(pair, vote) for pair in pairs_of(one, other) for vote in votes.get(pair.id, [])]
        one.votes += judged
        if (result := compare_by_votes(judged, clusters_of(one))) is not None:
            found.append((one, other, result))
    keep(PEOPLE, found)


def add_differences(rows: list[Row]) -> None:
    """Compare a setting's pipelines by every metric that has a direction.

    p is adjusted over all metrics of all pairs that were asked for: the table marks every one that is sure.
    """
    found = [
        (one, other, key, difference)
        for one, other in combinations(rows, 2)
        if one.tested_against(other)
        for key, difference in differences_of(one, other)
    ]
    adjusted = differences.holm([difference for *_, difference in found])
    for (one, other, key, _), difference in zip(found, adjusted, strict=True):
        one.differences.setdefault(key, {})[other.pipeline] = difference
        other.differences.setdefault(key, {})[one.pipeline] = difference.reversed()


def differences_of(one: Row, other: Row) -> Iterator[tuple[str, Difference]]:
    """Yield every metric's key and difference, over common seeds; p is not adjusted.

    What decides a win is left out: its verdict is the win rate's.
    """
    seeds = [seed for seed in one.seeds if seed in other.seeds]
    decides = outcomes(one).get(WIN)
    for metric in METRICS if seeds else ():
        measured = one.values[metric.key] is not None and other.values[metric.key] is not None
        if isinstance(metric, Measured) and metric.better and metric is not decides and measured:
            ours, theirs = metric.of_seeds(one, seeds), metric.of_seeds(other, seeds)
            yield metric.key, differ(ours, theirs, metric.clusters(one), metric.better, metric.text is percent)


def keep(outcome: str, found: list[tuple[Row, Row, Comparison]]) -> None:
    """Keep comparisons in both of their rows, p adjusted over all that were asked for."""
    family = [one.tested_against(other) for one, other, _ in found]
    adjusted = iter(holm([result for (*_, result), of in zip(found, family, strict=True) if of]))
    for (one, other, plain), of in zip(found, family, strict=True):
        result = next(adjusted) if of else replace(plain, asked=False)
        one.against.setdefault(outcome, {})[other.pipeline] = result
        other.against.setdefault(outcome, {})[one.pipeline] = result.reversed()


def missing(jobs: list[Job]) -> list[str]:
    """Return a line for each job that did not finish all its pipelines: which ones, and why."""
    lines = []
    for setting, group in by_setting(jobs):
        for job in group:
            names = [NAMES.get(name, str(name)) for name in job["wanted"] if name not in job["pipelines"]]
            if job["errors"] or names or not evaluated(job):
                place = f"{setting} seed={job['seed']}".strip()
                why = "; ".join(job["errors"]) or ("not finished yet" if names else "not evaluated yet")
                lines.append(f"Missing at {place}: {', '.join(names) or 'all'} ({why}).")
    return lines


def by_base(jobs: list[Job]) -> dict[str, tuple[Setting, list[Job]]]:
    """Return base directory -> the options that its jobs share but not all jobs have, and one job per seed."""
    finished = [job for job in jobs if job["pipelines"]]
    result: dict[str, tuple[Setting, list[Job]]] = {}
    for base in dict.fromkeys(job["base"] for job in finished):
        group = [job for job in finished if job["base"] == base]
        common = shared(job["setting"] for job in group)
        result[base] = common.without(shared(job["setting"] for job in finished)), one_a_seed(group)
    return result


def by_setting(jobs: list[Job]) -> list[tuple[Setting, list[Job]]]:
    """Return each setting with its jobs, one per seed: seed=0,0 is one model, not two."""
    groups: list[tuple[Setting, list[Job]]] = []
    for job in jobs:
        group = next((group for setting, group in groups if setting == job["setting"]), None)
        if group is None:
            groups.append((job["setting"], group := []))
        group.append(job)
    return [(setting, one_a_seed(group)) for setting, group in groups]


def one_a_seed(jobs: list[Job]) -> list[Job]:
    """Return the first job of each seed."""
    return list({job["seed"]: job for job in reversed(jobs)}.values())[::-1]


def with_bases(rows: list[Row]) -> list[tuple[Setting, list[Row]]]:
    """Return each setting with its rows, its base models first."""
    bases = [row for row in rows if not row.stages]
    groups = groupby([row for row in rows if row.stages], lambda row: row.setting)
    return [(setting, [*(base for base in bases if base.setting.within(setting)), *group]) for setting, group in groups]


def arranged(rows: list[Row]) -> list[Row]:
    """Return rows as tables show them: of each setting its candidates, then SFT; the base models last."""
    settings = list(dict.fromkeys(str(row.setting) for row in rows if row.stages))

    def key(row: Row) -> tuple[int, ...]:
        return (0, settings.index(str(row.setting)), *place(row.pipeline, row.stages)) if row.stages else (1,)

    return sorted(rows, key=key)


def place(pipeline: str, stages: list[str]) -> tuple[int, int]:
    """Return what pipelines are sorted by: rivals, the one with fewer stages first; others; SFT; the base model."""
    if not stages:
        return 3, 0
    if pipeline == "sft":
        return 2, 0
    return (0 if rival_of(pipeline) else 1), len(stages)


def rival_of(pipeline: str) -> str | None:
    """Return the pipeline that a table compares another with, besides SFT."""
    method = METHODS.get(pipeline.removeprefix("sft_"))
    return method.rival if method else None


def build_row(name: str, setting: Setting, jobs: list[Job]) -> Row:
    """Join one pipeline's measurements and records over its seeds."""
    directories = [
        [Path(stage) for stage in ([job["base"]] if name == "base" else job["pipelines"][name])] for job in jobs
    ]
    results = [read_result(stages[-1], job["evaluation"]) for stages, job in zip(directories, jobs, strict=True)]
    records = [] if name == "base" else [[read_record(stage) for stage in stages] for stages in directories]
    seeds = [job["seed"] for job in jobs]
    budgets = [job["budget"] for job in jobs if job.get("budget")]
    return Row(name, setting, seeds, directories, results, records, rival_of(name), budgets=budgets)
