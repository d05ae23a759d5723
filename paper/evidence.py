"""Measure a claim from a session's rows: the measurement, its 95 % interval and a verdict."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ttest_1samp

from eval.results.deciding import scored_by
from eval.results.history import read_log
from eval.results.matrix import probability
from eval.results.metric import Cost, decimals
from eval.results.metrics import CHOSEN, FLOPS, MEMORY, REJECTED, WIN, engines
from eval.results.row import Row
from eval.results.rows import NAMES
from eval.results.session import read_measured
from eval.results.statistics import Estimate, estimate
from recipes.engine.loss import log_odds

SUPPORTED, CONTRADICTED, NOT_SHOWN = "supported", "contradicted", "not shown at this scale"
NOT_TESTABLE = "not testable here"
Rows = dict[str, Row]  # for one setting: pipeline -> row
LOG_PROBS = {"chosen": CHOSEN, "rejected": REJECTED}
# Section 7.3 counts the passes of a pair in one epoch of the stage that trains on preferences.
PASSES_PER_EPOCH = Cost(
    "forward_passes_per_pair_and_epoch",
    "forward passes per pair and epoch of the last stage",
    decimals(1),
    "lower",
    lambda stages: stages[-1]["forward_passes_per_pair"] / stages[-1]["epochs"],
)


@dataclass(frozen=True)
class Finding:
    """The measurement of a claim in a session."""

    measured: str
    interval: str
    verdict: str


def judge(low: float, high: float, direction: int) -> str:
    """Return the verdict of an interval on the claim "above zero" (direction 1) or "below zero" (-1)."""
    if min(low * direction, high * direction) > 0:
        return SUPPORTED
    return CONTRADICTED if max(low * direction, high * direction) < 0 else NOT_SHOWN


def shift(answer: str, ours: str, theirs: str, direction: int) -> Callable[[Rows], Finding | None]:
    """Measure how much likelier held-out responses are under one model than another, in nats per token, per pair."""

    def measure(rows: Rows) -> Finding | None:
        if not {ours, theirs} <= set(rows):
            return None
        found = compare_likelihood(answer, rows[ours], rows[theirs])
        if not found:
            return None
        name = "log-odds ratio" if answer == "odds" else f"log-prob of {answer} responses"
        measured = f"{name}, {NAMES[ours]} - {NAMES[theirs]}: {found.mean:+.3f}"
        return Finding(measured, f"[{found.low:+.3f}, {found.high:+.3f}]", judge(found.low, found.high, direction))

    return measure


def compare_likelihood(answer: str, ours: Row, theirs: Row) -> Estimate | None:
    """Estimate the difference of two rows' likelihoods over their common seeds; None if they have none."""
    both = common(ours, theirs, lambda row: likelihood(row, answer))
    return estimate(np.subtract(*both), CHOSEN.clusters(ours)) if both else None


def common(ours: Row, theirs: Row, values: Callable[[Row], np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return values of both rows, whose first axis is the seeds, over their common seeds; None without any."""
    seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
    first, second = (values(row)[[row.seeds.index(seed) for seed in seeds]] for row in (ours, theirs))
    return (first, second) if seeds else None


def likelihood(row: Row, answer: str) -> np.ndarray:
    """Return log-probs of the chosen or rejected responses, or ("odds") the log-odds ratio (equations 4, 5) of both."""
    if answer != "odds":
        return LOG_PROBS[answer].scores(row)
    chosen, rejected = (log_odds(torch.from_numpy(metric.scores(row))) for metric in LOG_PROBS.values())
    return (chosen - rejected).numpy()


def trend(key: str, pipeline: str, direction: int) -> Callable[[Rows], Finding | None]:
    """Measure how a logged quantity changed in a pipeline's last stage: its last tenth minus its first, over seeds."""

    def measure(rows: Rows) -> Finding | None:
        if pipeline not in rows:
            return None
        moved = []
        for stages in rows[pipeline].directories:
            values = [entry[key] for entry in read_log(stages[-1]) if key in entry]
            tenth = max(1, len(values) // 10)
            if len(values) > 1:
                moved.append(np.mean(values[-tenth:]) - np.mean(values[:tenth]))
        if not moved:
            return None
        low, high = over_seeds(np.array(moved))
        measured = f"{key} on training pairs, last tenth - first: {np.mean(moved):+.3f}"
        return Finding(measured, interval(low, high, "{:+.3f}"), judge(low, high, direction))

    return measure


def saving(cost: Cost, theirs: str, counted: bool = False) -> Callable[[Rows], Finding | None]:
    """Measure ORPO's cost as a share of another pipeline's, over seeds; exact counts need no interval.

    Whether a count is smaller follows from the methods and the configured epochs, so no training can test it. Nor can
    one on a CPU test memory: there a model is small beside its process.
    """

    def measure(rows: Rows) -> Finding | None:
        if not {"orpo", theirs} <= set(rows):
            return None
        both = common(rows["orpo"], rows[theirs], cost.spent)
        if not both:
            return None
        logs = np.log(both[0] / both[1])
        low, high = (logs.min(), logs.max()) if counted else over_seeds(logs)
        used = {str(engines(rows[name])) for name in ("orpo", theirs)}
        mixed = not counted and len(used) > 1
        # three decimals, since "1.00, contradicted" would hide on which side of 1 it is
        measured = f"{cost.label}, ORPO / {NAMES[theirs]}: {np.exp(logs.mean()):.3f}"
        measured += f"; on different engines ({' and '.join(sorted(used))})" if mixed else ""
        verdict = NOT_SHOWN if mixed else judge(low, high, -1)
        testable = not counted and cost is not FLOPS and (cost is not MEMORY or on_gpus(rows["orpo"], rows[theirs]))
        return Finding(measured, interval(*np.exp([low, high])), verdict if testable else NOT_TESTABLE)

    return measure


def on_gpus(*rows: Row) -> bool:
    """Whether all stages were trained on GPUs; a record names the device, and of a CPU says so."""
    records = [record for row in rows for stages in row.records for record in stages]
    return not any("CPU" in record.get("device", "CPU") for record in records)


def over_seeds(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean over seeds; unbounded for a single one."""
    if len(values) < 2:
        return -np.inf, np.inf
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    low, high = ttest_1samp(values, 0).confidence_interval()
    return float(low), float(high)


def interval(low: float, high: float, form: str = "{:.3f}") -> str:
    """Return an interval in brackets, or that one seed has none."""
    return f"[{form.format(low)}, {form.format(high)}]" if np.isfinite(high) else "none with one seed"


def wins(theirs: str) -> Callable[[Rows], Finding | None]:
    """Measure ORPO's win rate over another pipeline; the verdict is the table's, after Holm."""

    def measure(rows: Rows) -> Finding | None:
        found = rows["orpo"].against.get(WIN, {}).get(theirs) if "orpo" in rows else None
        if not found:
            return None
        verdict = {"better": SUPPORTED, "worse": CONTRADICTED}.get(found.verdict, NOT_SHOWN)
        rate = f"ORPO wins {100 * found.rate.mean:.1f}% ({scored_by(rows['orpo'])})"
        measured = f"{rate}, {probability(found.adjusted)} after Holm"
        return Finding(measured, f"[{100 * found.rate.low:.1f}%, {100 * found.rate.high:.1f}%]", verdict)

    return measure


def one_stage(rows: Rows) -> Finding | None:
    """Report which stages ORPO trained, and whether it beats its base model without SFT or a reference model."""
    if not {"orpo", "base"} <= set(rows) or rows["orpo"].stages != ["orpo"]:
        return None
    finding = shift("odds", "orpo", "base", 1)(rows)
    assert finding is not None
    return Finding(f"one stage, no reference; {finding.measured}", finding.interval, finding.verdict)


def varied(rows: Rows) -> Finding | None:
    """Compare the similarity of ORPO's and DPO's responses (equations 14, 15), if `eval.diversity` embedded them."""
    if not {"orpo", "dpo"} <= set(rows):
        return None
    places = [stages[-1] / "eval" for name in ("orpo", "dpo") for stages in rows[name].directories]
    names = set.intersection(*({path.name for path in place.glob("diversity-*.json")} for place in places))
    if not names:
        return None
    newest = max(names, key=lambda name: (places[0] / name).stat().st_mtime)
    within, across = (alike_by(rows, newest, key) for key in ("within", "across"))
    if not within or not across:
        return None
    measured = f"mean cosine, ORPO - SFT → DPO: per prompt {within.mean:+.3f}, across prompts {across.mean:+.3f}"
    # A mean over pairs of prompts varies twice as much as one over prompts (see eval/diversity.py).
    low, high = (across.mean + 2 * (end - across.mean) for end in (across.low, across.high))
    return both(measured, (within.low, within.high, 1), (low, high, -1))


def alike_by(rows: Rows, name: str, key: str) -> Estimate | None:
    """Estimate how much more similar ORPO's responses are than DPO's, per prompt, from `eval.diversity`'s files."""

    def values(row: Row) -> np.ndarray:
        paths = [stages[-1] / "eval" / name for stages in row.directories]
        return np.array([read_measured(path, ("within", "across"))[key] for path in paths])

    found = common(rows["orpo"], rows["dpo"], values)
    return estimate(np.subtract(*found)) if found else None


def both(measured: str, *parts: tuple[float, float, int]) -> Finding:
    """Return the finding on a claim of two parts, each an interval and its claimed direction."""
    verdicts = {judge(*part) for part in parts}
    verdict = SUPPORTED if verdicts == {SUPPORTED} else CONTRADICTED if CONTRADICTED in verdicts else NOT_SHOWN
    return Finding(measured, ", ".join(interval(low, high, "{:+.3f}") for low, high, _ in parts), verdict)
