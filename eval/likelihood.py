"""Held-out likelihood: log-probs and preference accuracy, under one definition for all methods.

    python -m eval.likelihood [SESSION or stage directory …] [pairs=FILE] [reference=true]

The pairs are the session's held-out ones, or any file that training accepts. Pairs are ranked by the mean log-prob per
token, which ORPO and SimPO train, whatever the method; overall and by `category` or `subset` if the file has such a
column, as RewardBench's does (else by the source of a mixture). With `reference=true` a DPO or KTO stage is also ranked
by its own implicit reward, beta * (log P(y|x) - log P_ref(y|x)) summed over the response's tokens, against its initial
checkpoint. Methods without a reference model have no such figure.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands.cli import run, show, stages
from eval.results.statistics import Estimate, estimate
from recipes.config import UserError
from recipes.system.commands import output


@dataclass
class Options:
    """The options of the command line."""

    pairs: str = ""  # a file; empty: the held-out pairs
    reference: bool = False


def main(names: list[str], options: Options) -> None:
    """Measure every named model and print a table.

    Raises:
        UserError: the user can fix it.
    """
    chosen = stages(names)
    from eval.results.likelihood import log_odds_ratios, measure

    table = {}
    for directory, settings in chosen.items():
        pairs = options.pairs or settings.get("pairs")
        if not pairs:
            raise UserError(f"{directory} has no held-out pairs: give pairs=<file>, or name a session")
        values = measure(directory, Path(pairs), options.reference)
        table[directory.name] = figures(values, log_odds_ratios(values))
    show(f"{options.pairs or 'held-out pairs'}, ranked by mean log-prob; log-probs in nats per token", table)
    output.print(
        "Brackets: 95% interval over pairs, related ones as a cluster. Files: eval/likelihood-*.json in each stage."
    )


def figures(values: dict[str, Any], ratios: np.ndarray) -> dict[str, Estimate | float | str | None]:
    """Return the rows of a model's column, from its log-probs of pairs and their log-odds ratios."""
    chosen, rejected = (np.array(values[side]) for side in ("chosen", "rejected"))
    clusters = np.array(values.get("cluster", range(len(chosen))))  # files of older versions have none
    mean = partial(mean_of, clusters)
    ranked = (chosen > rejected).astype(float)
    found: dict[str, Any] = {
        "log-prob of chosen": mean(chosen),
        "log-prob of rejected": mean(rejected),
        "margin, chosen - rejected": mean(chosen - rejected),
        "log-odds ratio": mean(ratios),
        "preference accuracy": mean(ranked),
    }
    categories = np.array(values["category"])
    names = sorted(set(values["category"])) if len(set(values["category"])) > 1 else []
    for name in names:
        own = categories == name
        found[f"  {name} ({own.sum()})"] = mean_of(clusters[own], ranked[own])
    if "reward" in values:
        margins = np.array(values["reward"])
        found |= {
            "preference accuracy of its own reward": mean((margins > 0).astype(float)),
            "its own margin": mean(margins),
        }
    return found


def mean_of(clusters: np.ndarray, values: np.ndarray) -> Estimate | float:
    """Return a mean with its interval over the clusters of pairs; a single one has none."""
    related = np.unique(clusters, return_inverse=True)[1]
    return estimate(values[None], related) if related.any() else float(values.mean())


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
