"""Score responses with a reward model: `python -m eval.reward [SESSION …] [model=DIRECTORY or Hub id]`.

It scores every pipeline's evaluated responses at temperature 1, and writes reward.md, reward.json and two figures
beside the session's table: win rates (tables 2 and 3 of the ORPO paper), the distribution of rewards (its figure 5),
and, in the embedded world, reward against gold reward. Without `model=` it uses the reward model that the session's
RLOO was trained against, which is no independent judge of RLOO's responses.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from eval.commands.cli import run
from eval.pages.reward_figures import distributions, optimisation
from eval.results.rows import NAMES, by_base, by_setting
from eval.results.session import jobs_of, read_result, sessions
from eval.results.statistics import ABSENT, Comparison, Estimate, compare, estimate, holm
from recipes.config import UserError, read_config, write_json, write_text
from recipes.system.commands import output

if TYPE_CHECKING:
    from eval.answers.reward_judge import Judge


@dataclass
class Scored:
    """One pipeline's responses under one setting; arrays of shape (seeds, prompts)."""

    name: str
    seeds: list[int]
    prompts: list[str]
    rewards: np.ndarray
    gold: np.ndarray | None  # where the data set has one
    clusters: np.ndarray  # the number of each prompt's cluster

    def against(self, other: "Scored") -> Comparison | None:
        """Return how often our response has the higher reward; None if prompts differ, or no seed is common."""
        common = [seed for seed in self.seeds if seed in other.seeds and self.prompts == other.prompts]
        if not common:
            return None
        ours, theirs = (row.rewards[[row.seeds.index(seed) for seed in common]] for row in (self, other))
        return compare(ours, theirs, self.clusters)

    @property
    def agreement(self) -> float | None:
        """Spearman's rank correlation of reward and gold reward over all responses; falls with reward hacking."""
        if self.gold is None:
            return None
        found: Any = spearmanr(self.rewards.ravel(), self.gold.ravel())
        return float(found.statistic)


@dataclass
class Options:
    """The options of the command line."""

    model: str | None = None  # a reward model's directory or Hub id; null: the session's own


def main(names: list[str], options: Options) -> None:
    """Score the responses of the named sessions, or of the newest.

    Raises:
        UserError: the user can fix it.
    """
    found = sessions(names)  # a wrong name is an error before PyTorch is imported
    from eval.answers.reward_judge import Judge

    for session in found:
        jobs = [job for job in jobs_of(session) if job["pipelines"]]
        judge = Judge(options.model or own_reward_model(jobs, session))
        report(session, judge.name, score(jobs, judge))


def own_reward_model(jobs: list[dict[str, Any]], session: Path) -> Path:
    """Return the first reward model that a session trained.

    Raises:
        UserError: it trained none.
    """
    stages = [Path(stage) for job in jobs for stages in job["pipelines"].values() for stage in stages]
    found = next((stage for stage in stages if read_config(stage)["stage"] == "reward"), None)
    if found is None:
        raise UserError(f"{session} trained no reward model: name one with model=<directory or Hub id>, or train rlhf")
    return found


def score(jobs: list[dict[str, Any]], judge: "Judge") -> list[Scored]:
    """Score the responses of every pipeline of every setting, and of the base models.

    Raises:
        UserError: a model has not been evaluated, or its pairs were removed.
    """
    scored = [
        score_pipeline(f"{NAMES['base']} {setting}".strip(), "base", group, judge)
        for setting, group in by_base(jobs).values()
    ]
    for setting, group in by_setting(jobs):
        for name in dict.fromkeys(name for job in group for name in job["pipelines"]):
            scored.append(score_pipeline(f"{NAMES.get(name, name)} {setting}".strip(), name, group, judge))
    return scored


def score_pipeline(title: str, name: str, jobs: list[dict[str, Any]], judge: "Judge") -> Scored:
    """Score one pipeline's responses over its seeds."""
    from eval.results.prompts import held_out_prompts

    jobs = [job for job in jobs if name == "base" or name in job["pipelines"]]
    asked: list[str] = []
    rewards, gold, clusters = [], [], []
    for job in jobs:
        directory = Path(job["base"] if name == "base" else job["pipelines"][name][-1])
        result = read_result(directory, job["evaluation"])
        answers, clusters = result["sampled"], result["clusters"]["prompts"]
        prompts = list(held_out_prompts(job["evaluation"])["prompt"])[: len(answers)]
        asked = [answer["prompt"] for answer in answers]
        rewards.append(judge.rewards(prompts, answers))
        gold.append([answer.get("gold") for answer in answers])
    known = None if gold[0][0] is None else np.array(gold, dtype=float)
    related = np.unique(clusters, return_inverse=True)[1]
    return Scored(title, [job["seed"] for job in jobs], asked, np.array(rewards), known, related)


def report(session: Path, judge: str, rows: list[Scored]) -> None:
    """Print the tables, and write tables, numbers and figures."""
    lines = [f"Reward model: {judge}", "", *summary(rows), "", *matrix(rows)]
    for line in lines:
        output.print(line, soft_wrap=True)
    write_text(session / "reward.md", "\n".join([*lines, ""]))
    write_json(session / "reward.json", as_json(judge, rows))
    write_text(session / "reward-distributions.svg", distributions({row.name: row.rewards.ravel() for row in rows}))
    gold = {row.name: (row.rewards.ravel(), row.gold.ravel()) for row in rows if row.gold is not None}
    if gold:
        write_text(session / "reward-optimisation.svg", optimisation(gold))
    output.print(f"written: {session}/reward.md, reward.json and reward-*.svg", soft_wrap=True)


def summary(rows: list[Scored]) -> list[str]:
    """Return each pipeline's mean reward and, if known, its mean gold reward."""
    lines = ["| | reward | gold reward | rank correlation |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        gold = ABSENT if row.gold is None else interval(estimate(row.gold, row.clusters))
        agreement = ABSENT if row.agreement is None else f"{row.agreement:.2f}"
        lines.append(f"| {row.name} | {interval(estimate(row.rewards, row.clusters))} | {gold} | {agreement} |")
    return lines


def comparisons(rows: list[Scored]) -> dict[tuple[str, str], Comparison]:
    """Return every pair of pipelines in both orders, p after Holm over all pairs."""
    pairs = [(one, other) for place, one in enumerate(rows) for other in rows[place + 1 :]]
    known = [(one.name, other.name, found) for one, other in pairs if (found := one.against(other))]
    result = {}
    for (one, other, _), found in zip(known, holm([found for *_, found in known]), strict=True):
        result[one, other], result[other, one] = found, found.reversed()
    return result


def matrix(rows: list[Scored]) -> list[str]:
    """Return win rates by reward; a tie counts half, and verdicts are after Holm."""
    found = comparisons(rows)
    lines = ["| wins against | " + " | ".join(row.name for row in rows) + " |"]
    lines.append("| --- |" + " ---: |" * len(rows))
    for row in rows:
        against = [found.get((row.name, other.name)) for other in rows]
        cells = [ABSENT if one is None else f"{percent(one.rate)} {one.verdict}" for one in against]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return lines


def percent(rate: Estimate) -> str:
    """Return a win rate with its 95% interval."""
    return f"{rate.mean:.1%} [{rate.low:.1%}, {rate.high:.1%}]"


def interval(found: Estimate) -> str:
    """Return a mean with its 95% interval."""
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def as_json(judge: str, rows: list[Scored]) -> dict[str, Any]:
    """Return everything as plain values: each response's reward and gold reward, and every win rate with verdict."""
    return {
        "reward_model": judge,
        "pipelines": {
            row.name: {
                "seeds": row.seeds,
                "rewards": row.rewards.tolist(),
                "gold": None if row.gold is None else row.gold.tolist(),
                "rank_correlation": row.agreement,
            }
            for row in rows
        },
        "win_rates": [
            {"of": one, "against": other, **vars(found.rate), "p": found.adjusted, "verdict": found.verdict}
            for (one, other), found in comparisons(rows).items()
        ],
    }


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
