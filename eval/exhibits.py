"""The ORPO paper's tables and figures as the sessions of `make paper` have them, the published value beside each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from eval import figures
from eval.curves import figure
from eval.diversity import kept_diversity
from eval.dynamics import dynamics
from eval.evidence import saving
from eval.measures import PASSES
from eval.published import Figure, find
from eval.ratios import sample, summary
from eval.rows import NAMES, Row
from eval.suite import text
from eval.table import text as cell
from recipes.config import read_json

ABSENT = "–"
SIZES = {"small": "OPT-125M", "middle": "OPT-350M", "large": "OPT-1.3B"}  # a session, and whom it stands for
RIVALS = {"sft": "SFT", "dpo": "SFT+DPO", "rlhf": "SFT+PPO"}
METHODS = {"sft": "SFT", "dpo": "SFT+DPO", "orpo": "ORPO"}
HELD_OUT = 200  # pairs that every checkpoint is scored on
READ = "Means over seeds and held-out pairs; a band reaches from the lowest to the highest seed."


@dataclass
class Exhibit:
    """One table or figure of the paper: ours, the published one, and whether they can be compared."""

    name: str
    subject: str
    comparable: str
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)  # caption, lines with the head first
    figures: list[tuple[Markup, str]] = field(default_factory=list)  # an <svg>, its caption

    @property
    def anchor(self) -> str:
        """Its name in links and files."""
        return self.name.lower().replace(" ", "-").replace(".", "-")


Sessions = dict[str, dict[str, Row]]  # a session of one setting: pipeline -> row


def exhibits(root: Path, sessions: Sessions) -> list[Exhibit]:
    """Return all exhibits, in the paper's order.

    Raises:
        UserError: a session has not been through its suites.
    """
    middle = root / "_sessions" / "middle"
    during = {curve.stage: curve for curve in dynamics([middle], HELD_OUT)}
    return [
        pipelines(sessions["middle"]),
        reward_model_wins(root, sessions),
        diversity(sessions["middle"]),
        course("Figure 3", "log-probs of held-out answers during SFT", [during["sft"]], FIGURE_3),
        rewards(middle, sessions["middle"]),
        ratios(),
        course("Figure 7", "log-probs of held-out answers during ORPO", [during["orpo"]], FIGURE_7),
        cost(sessions["middle"]),
        course("Figure 8", "a loss of probability ratios against one of odds ratios", swept(root, "ratio"), FIGURE_8),
        course("Figure 9", "what λ does", swept(root, "weight"), FIGURE_9),
    ]


FIGURE_3 = (
    "The paper draws OPT-350M on HH-RLHF and the rejected answers of the training batch; no numbers are printed. What can be "
    "compared is the course: with chosen answers, rejected ones become likelier too."
)
FIGURE_7 = "As figure 3, with λ = 1 as here; no numbers are printed. The course: rejected answers fall, chosen ones do as in SFT."
FIGURE_8 = (
    "The paper draws UltraFeedback, its model is not named, no numbers are printed: the probability ratio drives rejected "
    "answers down early, the odds ratio late. Both here with the same λ and learning rate."
)
FIGURE_9 = (
    "The paper draws Mistral-7B on UltraFeedback with the same three λ; no numbers are printed. Its course: 0.1 raises chosen "
    "answers and does not push rejected ones down, 0.5 parts them, 1 pushes both down with a wider margin."
)


def pipelines(rows: dict[str, Row]) -> Exhibit:
    """Return table 1: what each pipeline's answers are worth."""
    keys = ("gold reward, temperature 1", "win rate against SFT", "gold reward, greedy")
    head = ["", *keys, "AlpacaEval 1.0, Phi-2", "AlpacaEval 2.0, Phi-2"]
    lines = [
        [NAMES[name], *(cell(key, row) for key in keys), *(alpaca(name, version) for version in ("1.0", "2.0"))]
        for name, row in rows.items()
    ]
    comparable = (
        "Values cannot be compared, only their order can: the paper's are GPT-4's verdicts on Phi-2's answers, in per cent with "
        "their standard errors; ours are a gold reward's on a model of 0.9M parameters. Independent work finds weak baselines in them."
    )
    return Exhibit(
        "Table 1", "the pipelines' answers", comparable, [(f"Ours, and the paper's. {over(rows)}", [head, *lines])]
    )


def alpaca(pipeline: str, version: str) -> str:
    """Return what table 1 has of Phi-2 after a pipeline; it has no base model and no RLHF."""
    wanted = {"table": "table 1", "model": "Phi-2", "metric": f"AlpacaEval {version} win rate"}
    return printed(find(source="orpo", method=METHODS.get(pipeline, ""), **wanted))


def printed(found: list[Figure]) -> str:
    """Return a published figure with its error, or a dash."""
    return f"{found[0].value:g} ± {found[0].error:g}" if found and found[0].error else ABSENT


def over(rows: dict[str, Row]) -> str:
    """Say what intervals are over."""
    row = rows["orpo"]
    return f"Brackets: 95% intervals over {row.scores.shape[1]} prompts and seeds {', '.join(map(str, row.seeds))}."


def reward_model_wins(root: Path, sessions: Sessions) -> Exhibit:
    """Return tables 2 and 3: ORPO's reward-model win rates at three sizes."""
    head = ["", *(f"over {NAMES[name]}" for name in RIVALS)]
    lines, theirs = [], []
    for session, model in SIZES.items():
        found = read_json(root / "_sessions" / session / "reward.json")
        size = sessions[session]["orpo"]
        lines.append([f"{parameters(size):,} parameters", *(won(found["win_rates"], name) for name in RIVALS)])
        for number, data in ((2, "HH-RLHF"), (3, "UltraFeedback")):
            wanted = {"source": "orpo", "table": f"table {number}", "model": model, "method": "ORPO"}
            theirs.append([f"{model}, {data}", *(printed(find(**wanted, against=RIVALS[name])) for name in RIVALS)])
    comparable = (
        "The protocol is the paper's: every size is reinforced by the middle size's reward model and judged by the large size's, "
        "both trained for one epoch on the same pairs, on answers at temperature 1, a tie counting half; a round has a training "
        "seed of its own here, while the paper samples one model three times. RLOO stands for PPO, which TRL has removed. Models, data and the "
        "range of sizes differ: signs and trends can be compared, values cannot. Settings were tuned on the middle size alone."
    )
    ours = f"ORPO's win rates as we measure them, over three rounds. {over(sessions['middle'])}"
    tables = [
        (ours, [head, *lines]),
        ("The paper's, in per cent ± the standard deviation of three rounds.", [head, *theirs]),
    ]
    return Exhibit("Tables 2 and 3", "reward-model win rates of ORPO", comparable, tables)


def won(rates: list[dict[str, Any]], rival: str) -> str:
    """Return ORPO's win rate over a rival with its interval and verdict."""
    found = next((rate for rate in rates if (rate["of"], rate["against"]) == (NAMES["orpo"], NAMES[rival])), None)
    if found is None:
        return ABSENT
    return f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}] {found['verdict']}"


def parameters(row: Row) -> int:
    """Return the size of a row's model."""
    from eval.evidence import parameters as size

    return size(row)


def diversity(rows: dict[str, Row]) -> Exhibit:
    """Return table 4: mean cosines among a prompt's answers, and among the prompts' answers."""
    head = [
        "",
        "per input",
        "across inputs",
        *(f"{name}, paper's {model}" for model in ("Phi-2", "Llama-2-7B") for name in ("per", "across")),
    ]
    lines = []
    for name, row in rows.items():
        found = kept_diversity([stages[-1] for stages in row.directories])
        theirs = [
            next(
                (
                    f"{one.value:g}"
                    for one in find(
                        source="orpo", table="table 4", model=model, method=METHODS.get(name, ""), metric=metric
                    )
                ),
                ABSENT,
            )
            for model in ("Phi-2", "Llama-2-7B")
            for metric in ("per-input similarity", "across-input similarity")
        ]
        lines.append([NAMES[name], *(text(found[key]) for key in ("per input", "across inputs")), *theirs])
    comparable = (
        "Cosines of different embedders cannot be compared: the paper's is Gemini-Pro, ours the untuned base model, whose states lie close "
        "together. The sign of a difference between two pipelines can. Lower is more diverse."
    )
    return Exhibit(
        "Table 4",
        "diversity of answers",
        comparable,
        [(f"Five answers to each prompt at temperature 1. {over(rows)}", [head, *lines])],
    )


def rewards(session: Path, rows: dict[str, Row]) -> Exhibit:
    """Return figure 5: how the judge's rewards are distributed."""
    found = read_json(session / "reward.json")["pipelines"]
    named = [row for row in rows.values() if NAMES[row.pipeline] in found]
    values = [np.array(found[NAMES[row.pipeline]]["rewards"]) for row in named]
    drawn = Markup(figures.distribution(named, values, "reward of an answer at temperature 1"))
    comparable = (
        "The paper draws histograms of OPT on UltraFeedback and prints no numbers; ours are cumulative, so that five lines can be "
        "told apart: further right is better. Its claim: ORPO lies furthest right, PPO left."
    )
    head = ["", "mean reward"]
    lines = [[NAMES[row.pipeline], text(row_mean(value))] for row, value in zip(named, values, strict=True)]
    return Exhibit(
        "Figure 5",
        "rewards of the answers",
        comparable,
        [(over(rows), [head, *lines])],
        [(drawn, "All seeds together.")],
    )


def row_mean(values: np.ndarray) -> Any:
    """Return the mean of (seeds, prompts) with its interval."""
    from eval.statistics import estimate

    return estimate(values)


def ratios() -> Exhibit:
    """Return figure 6, by its definition."""
    head = ["", "standard deviation", "exactly", "middle 90%"]
    lines = [
        [name, f"{one['deviation']:.3f}", f"{one['exact_deviation']:.3f}", f"[{one['low']:.2f}, {one['high']:.2f}]"]
        for name, one in summary(sample()).items()
    ]
    comparable = "Exactly reproducible: 50,000 pairs of uniform probabilities; figure-6.svg beside this page draws them. No model, no interval."
    return Exhibit(
        "Figure 6",
        "probability ratio against odds ratio",
        comparable,
        [("As defined by equations 17 to 19.", [head, *lines])],
    )


def swept(root: Path, session: str) -> list[Any]:
    """Return the curves of a session's settings."""
    return dynamics([root / "_sessions" / session], HELD_OUT)


def course(name: str, subject: str, curves: Sequence[Any], comparable: str) -> Exhibit:
    """Return a figure of held-out log-probs during training, and where each line begins and ends."""
    head = ["", "answers", "before", "after", "lowest on the way"]
    lines = []
    for curve in curves:
        for side in ("chosen", "rejected"):
            found = curve.estimates(side)
            lowest = min(found, key=lambda one: one.mean)
            lines.append([curve.title, side, *(text(one) for one in (found[0], found[-1], lowest))])
    pairs = curves[0].chosen.shape[2]
    seeds = ", ".join(map(str, curves[0].seeds))
    caption = f"Nats per token; brackets: 95% intervals over {pairs} held-out pairs and seeds {seeds}."
    return Exhibit(name, subject, comparable, [(caption, [head, *lines])], [(Markup(figure(list(curves))), READ)])


def cost(rows: dict[str, Row]) -> Exhibit:
    """Return section 7.3: what the pipelines cost."""
    keys = ("forward passes per pair", "peak memory, GB", "device-seconds", "tokens computed", "FLOPs")
    trained = {name: row for name, row in rows.items() if row.stages}
    lines = [[NAMES[name], *(cell(key, row) for key in keys)] for name, row in trained.items()]
    measures = {PASSES: True, "peak memory, GB": False, "device-seconds": False, "FLOPs": False}
    found = [saving(key, "dpo", counted=counted)(rows) for key, counted in measures.items()]
    shares = [[*one.measured.rsplit(": ", 1), one.interval, one.verdict] for one in found if one]
    comparable = (
        "The paper counts: half of DPO's forward passes in an epoch, and no reference model in memory. Whether a whole training is "
        "cheaper depends on its epochs: here ORPO has three, SFT three and DPO one, each the best of four settings."
    )
    tables = [
        ("Training loops, summed over the stages; means over seeds.", [["", *keys], *lines]),
        ("ORPO's share of SFT → DPO's cost; below 1 is a saving.", [["", "share", "95% interval", "verdict"], *shares]),
    ]
    return Exhibit("Section 7.3", "cost", comparable, tables)
