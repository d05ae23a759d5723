"""The ORPO paper's tables and figures from the sessions of `make paper`, beside the published values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from eval.diversity import kept
from eval.dynamics import dynamics
from eval.pages import figures
from eval.pages.curves import Curve, figure
from eval.results.cells import text as cell
from eval.results.deciding import prompts_of
from eval.results.metrics import COMPUTED, FLOPS, MEMORY, METRIC, PASSES, SECONDS
from eval.results.row import Row
from eval.results.rows import NAMES
from eval.results.statistics import ABSENT, estimate, text
from paper.across import parameters
from paper.evidence import PASSES_PER_EPOCH, saving
from paper.published import Figure, find
from paper.ratios import figure as spread
from paper.ratios import sample, summary
from recipes.config import read_json

SIZES = {"small": "OPT-125M", "middle": "OPT-350M", "large": "OPT-1.3B"}  # session -> the paper's model it stands for
RIVALS = {"sft": "SFT", "dpo": "SFT+DPO", "rlhf": "SFT+PPO"}
METHODS = {"sft": "SFT", "dpo": "SFT+DPO", "orpo": "ORPO"}
HELD_OUT = 200  # pairs on which every checkpoint is scored
Rows = dict[str, Row]  # for one setting: pipeline -> row


@dataclass
class Exhibit:
    """One table or figure of the paper: ours, the published one, and whether they are comparable (paper.yaml)."""

    anchor: str  # its name in paper.yaml, in links and in files
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)  # caption, lines with the head first
    figures: list[tuple[Markup, str]] = field(default_factory=list)  # an <svg>, its caption
    name: str = ""
    subject: str = ""
    comparable: str = ""

    def __post_init__(self) -> None:
        """Look up its texts in the YAML file."""
        said = yaml.safe_load((Path(__file__).parent / "exhibits.yaml").read_text())[self.anchor]
        self.name, self.subject, self.comparable = said["name"], said["subject"], said["comparable"]


def exhibits(root: Path, sizes: dict[str, Rows]) -> list[Exhibit]:
    """Return all exhibits but the claims, in the paper's order; `sizes` are the rows of the sessions in `SIZES`.

    Raises:
        UserError: a session is missing, or its suites have not been run.
    """
    sessions, rows = root / "_sessions", sizes["middle"]
    drawn = [stages[-1] for name in ("sft", "orpo") for stages in rows[name].directories]
    during = dynamics(drawn, HELD_OUT)
    return [
        pipelines(rows),
        reward_model_wins(sessions, sizes),
        diversity(rows),
        course("figure-3", [curve for curve in during if curve.stage == "sft"]),
        rewards(sessions / "middle", rows),
        ratios(),
        course("figure-7", [curve for curve in during if curve.stage == "orpo"]),
        cost(rows),
        course("figure-8", dynamics([sessions / "ratio"], HELD_OUT)),
        course("figure-9", dynamics([sessions / "weight"], HELD_OUT)),
    ]


def pipelines(rows: Rows) -> Exhibit:
    """Return table 1: the quality of each pipeline's responses."""
    metrics = [METRIC[key] for key in ("gold_sampled", "win_rate_over_sft", "gold_greedy")]
    versions = ("1.0", "2.0")
    head = [
        "",
        *(metric.label for metric in metrics),
        *(f"AlpacaEval {version} in per cent, Phi-2, paper" for version in versions),
    ]
    lines = []
    for name, row in rows.items():
        wanted: dict[str, str] = {"table": "table 1", "model": "Phi-2", "method": METHODS.get(name, "")}
        theirs = [printed(metric=f"AlpacaEval {version} win rate", **wanted) for version in versions]
        lines.append([NAMES[name], *(cell(metric, row) for metric in metrics), *theirs])
    return Exhibit("table-1", [(over(rows), [head, *lines])])


def printed(**wanted: str) -> str:
    """Return the paper's figure with its error, or a dash if it has none."""
    found: list[Figure] = find(source="orpo", **wanted)
    if not found:
        return ABSENT
    return f"{found[0].value:g}" + (f" ± {found[0].error:g}" if found[0].error else "")


def over(rows: Rows, prompts: int | None = None) -> str:
    """Return what the intervals are over; without a number, over the prompts of table 1."""
    row = rows["orpo"]
    return f"95% intervals over {prompts or prompts_of(row)} prompts and seeds {', '.join(map(str, row.seeds))}."


def reward_model_wins(sessions: Path, sizes: dict[str, Rows]) -> Exhibit:
    """Return tables 2 and 3: ORPO's reward-model win rates at three sizes."""
    head = ["", *(f"over {NAMES[name]}" for name in RIVALS)]
    ours, theirs = [], []
    for session, model in SIZES.items():
        rates = read_json(sessions / session / "reward.json")["win_rates"]
        size = f"{session}, {parameters(sizes[session]['orpo']):,} parameters"
        ours.append([size, *(won(rates, name) for name in RIVALS)])
        for table, data in (("table 2", "HH-RLHF"), ("table 3", "UltraFeedback")):
            wanted = {"table": table, "model": model, "method": "ORPO"}
            theirs.append([f"{model}, {data}", *(printed(**wanted, against=RIVALS[name]) for name in RIVALS)])
    caption = f"{over(sizes['middle'])} Verdicts: p after Holm over all pairs of a size's models, including the base."
    printed_one = "The paper's, in per cent ± the standard deviation of three rounds."
    return Exhibit("tables-2-and-3", [(caption, [head, *ours]), (printed_one, [head, *theirs])])


def won(rates: list[dict[str, Any]], rival: str) -> str:
    """Return ORPO's win rate over a rival with its interval and verdict."""
    found = next((rate for rate in rates if (rate["of"], rate["against"]) == (NAMES["orpo"], NAMES[rival])), None)
    if found is None:
        return ABSENT
    return f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}] {found['verdict']}"


def diversity(rows: Rows) -> Exhibit:
    """Return table 4: mean cosines among a prompt's responses, and between prompts' responses."""
    metrics = {"per input": "per-input similarity", "across inputs": "across-input similarity"}
    models = ("Phi-2", "Llama-2-7B")
    head = ["", *metrics, *(f"{metric}, {model}, paper" for model in models for metric in metrics)]
    lines, prompts = [], None
    for name, row in rows.items():
        found, prompts = kept([stages[-1] for stages in row.directories])
        wanted = {"table": "table 4", "method": METHODS.get(name, "")}
        theirs = [printed(model=model, metric=metric, **wanted) for model in models for metric in metrics.values()]
        lines.append([NAMES[name], *(text(found[key]) for key in metrics), *theirs])
    return Exhibit("table-4", [(over(rows, prompts), [head, *lines])])


def rewards(session: Path, rows: Rows) -> Exhibit:
    """Return figure 5: how the judge's rewards are distributed."""
    found = read_json(session / "reward.json")["pipelines"]
    values = {name: np.array(found[NAMES[name]]["rewards"]) for name in rows if NAMES[name] in found}
    label = "reward of a response at temperature 1"
    drawn = Markup(figures.distribution([rows[name] for name in values], list(values.values()), label))
    lines = [[NAMES[name], text(estimate(value))] for name, value in values.items()]
    return Exhibit("figure-5", [(over(rows), [["", "mean reward"], *lines])], [(drawn, "All seeds together.")])


def ratios() -> Exhibit:
    """Return figure 6, from its definition."""
    drawn = sample()
    lines = [
        [name, f"{one['deviation']:.3f}", f"{one['exact_deviation']:.3f}", f"{one['low']:.2f} to {one['high']:.2f}"]
        for name, one in summary(drawn).items()
    ]
    head = ["", "standard deviation", "exactly", "middle 90%"]
    read = "The wider a ratio's distribution, the less sharp its loss."
    return Exhibit("figure-6", [("As equations 17 to 19 define it.", [head, *lines])], [(Markup(spread(drawn)), read)])


def course(anchor: str, curves: Sequence[Curve]) -> Exhibit:
    """Return a figure of held-out log-probs during training, with each line's first, last and lowest value."""
    lines = []
    for curve in curves:
        for side in ("chosen", "rejected"):
            found = curve.estimates(side)
            place = min(range(len(found)), key=lambda number: found[number].mean)
            lowest = f"{found[place].mean:.3f} at {curve.steps[place] * curve.batch_size:,}"
            lines.append([curve.title, side, text(found[0]), text(found[-1]), lowest])
    seeds, pairs = ", ".join(map(str, curves[0].seeds)), curves[0].chosen.shape[2]
    caption = f"Nats per token; 95% intervals over {pairs} held-out pairs and seeds {seeds}."
    read = "Means over seeds and held-out pairs; a band spans the seeds' means."
    head = ["", "responses", "before", "after", "lowest, at pairs read"]
    return Exhibit(anchor, [(caption, [head, *lines])], [(Markup(figure(list(curves))), read)])


def cost(rows: Rows) -> Exhibit:
    """Return section 7.3: the pipelines' costs, and ORPO's as a share of DPO's."""
    costs = (PASSES, MEMORY, SECONDS, COMPUTED, FLOPS)
    lines = [[NAMES[name], *(cell(metric, row) for metric in costs)] for name, row in rows.items() if row.stages]
    found = [
        saving(metric, "dpo", metric is PASSES_PER_EPOCH)(rows) for metric in (PASSES_PER_EPOCH, MEMORY, SECONDS, FLOPS)
    ]
    shares = [[*one.measured.rsplit(": ", 1), one.interval, one.verdict] for one in found if one]
    tables = [
        (
            "Training loops, summed over stages, means over seeds; memory is the maximum.",
            [["", *(metric.label for metric in costs)], *lines],
        ),
        ("Below 1 is a saving.", [["", "share", "95% interval", "that ORPO saves"], *shares]),
    ]
    return Exhibit("section-7-3", tables)
