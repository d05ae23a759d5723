"""Held-out likelihood: log-probs and preference accuracy, under one definition for all methods.

    python -m eval.likelihood [SESSION or stage directory …] [pairs=FILE] [reference=true]

The pairs are the session's held-out ones, or any file that training accepts. Pairs are ranked by the mean log-prob per
token, ORPO's implicit reward, whatever the method; overall and by `category` or `subset` if the file has such a column,
as RewardBench's does (else by the source of a mixture). With `reference=true` a DPO stage is also ranked by its own
implicit reward, beta * (log P(y|x) - log P_ref(y|x)) summed over the response's tokens, against its initial checkpoint.
Methods without a reference model have no such figure.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Rows
from datasets import disable_caching, disable_progress_bars

from eval.answers.load import context, load, load_renderer, load_weights
from eval.answers.log_probs import mean_log_probs
from eval.commands.cli import run, show, stages
from eval.results.result import measured
from eval.results.session import read_measured
from eval.results.statistics import Estimate, estimate
from recipes.config import UserError, read_config, write_json
from recipes.data.chat import Renderer
from recipes.data.columns import check_columns
from recipes.data.prepare import open_pairs
from recipes.data.rows import as_pairs
from recipes.data.sources import load_files
from recipes.data.tokenize import Tokenise
from recipes.engine.loss import log_odds
from recipes.profiles import Dataset
from recipes.system.commands import output

SIDES = ("chosen", "rejected")
CATEGORIES = ("category", "subset")  # columns that name a pair's kind: the first that there is


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
    table = {}
    for directory, settings in stages(names).items():
        pairs = options.pairs or settings.get("pairs")
        if not pairs:
            raise UserError(f"{directory} has no held-out pairs: give pairs=<file>, or name a session")
        table[directory.name] = figures(measure(directory, Path(pairs), options.reference))
    show(f"{options.pairs or 'held-out pairs'}, ranked by mean log-prob; log-probs in nats per token", table)
    output.print("Brackets: 95% interval, bootstrap over pairs. Files: eval/likelihood-*.json in each stage directory.")


def measure(directory: Path, pairs: Path, reference: bool) -> dict[str, Any]:
    """Return a model's log-probs of every pair, measuring those not yet measured.

    The result, also a file beside the model, has lists with a value per pair: `chosen` and `rejected` (means per
    token), `tokens` of each, `category`, and with a reference model `reward`, the margin of chosen over rejected.

    Raises:
        UserError: the pairs cannot be read, or none of them can be scored.
    """
    config = read_config(directory)
    judged = reference and config["stage"] == "dpo"
    content = (pairs if pairs.is_file() else pairs / "manifest.json").read_bytes() if pairs.exists() else b""
    record = (directory / "record.json").read_bytes()
    digest = hashlib.sha256(content + record).hexdigest()
    result = measured(directory, {"pairs": str(pairs), "content": digest, "reference": judged}, "likelihood")
    if result.exists():
        return read_measured(result, SIDES)
    rows = scorable(directory, pairs)
    model, _, stops = load(directory)
    values: dict[str, Any] = {"pairs": str(pairs), "category": list(rows["category"])}
    values["tokens"] = {side: [len(ids) for ids in rows[f"{side}_ids"]] for side in SIDES}
    values |= {side: mean_log_probs(model, rows, f"{side}_ids", stops[0]) for side in SIDES}
    if judged:
        values["beta"] = float(config["options"]["beta"])
        values["reward"] = reward_margins(values, load_weights(config["start"], config["start_revision"]), rows, stops)
    result.parent.mkdir(exist_ok=True)
    write_json(result, values)
    return values


def reward_margins(values: dict[str, Any], reference: Any, rows: Rows, stops: list[int]) -> list[float]:
    """Return DPO's implicit reward margin of each pair."""
    rewards = {}
    for side in SIDES:
        ratio = np.array(values[side]) - np.array(mean_log_probs(reference, rows, f"{side}_ids", stops[0]))
        rewards[side] = values["beta"] * np.array(values["tokens"][side]) * ratio
    return (rewards["chosen"] - rewards["rejected"]).tolist()


def scorable(directory: Path, pairs: Path) -> Rows:
    """Return pairs as ids with their `category`: the prepared test split, or a file's, tokenized for this model.

    Raises:
        UserError: they cannot be read, or none is left.
    """
    if pairs.is_dir():
        rows: Any = open_pairs(pairs)["test"]
        return rows.add_column("category", rows["source"])
    disable_progress_bars()
    disable_caching()
    rows = tokenised(pairs, load_renderer(directory))
    limit = context(load(directory)[0])
    problems = [row["problem"] or ("overlong" if row["long"] > limit else "") for row in rows]  # type: ignore[index]
    fine = rows.select([place for place, problem in enumerate(problems) if not problem])
    if len(fine) < len(rows):
        why = ", ".join(sorted(set(filter(None, problems))))
        output.print(f"{directory.name}: {len(rows) - len(fine)} of {len(rows)} pairs left out ({why})")
    if not len(fine):
        raise UserError(f"{pairs} has no pair that {directory.name} can score: `make doctor` shows why")
    return fine


def tokenised(file: Path, render: Renderer) -> Rows:
    """Return a file's rows as pairs with ids, `category`, and `problem` if there is one."""
    source = load_files(str(file), columns=CATEGORIES)
    check_columns(str(file), source.columns)
    column = next((name for name in CATEGORIES if name in source.columns), None)
    rows = [row if isinstance(row, dict) else {} for row in source.rows]
    categories = [str(row.get(column)) if column else "all" for row in rows]
    pairs = as_pairs(source.rows, None, {"source": "file"}).add_column("category", categories)
    return pairs.map(Tokenise(render, Dataset("file", "file")), batched=True)


def figures(values: dict[str, Any]) -> dict[str, Estimate | float | str | None]:
    """Return the rows of a model's column."""
    chosen, rejected = (np.array(values[side]) for side in SIDES)
    ratio = log_odds(torch.from_numpy(chosen)) - log_odds(torch.from_numpy(rejected))
    ranked = (chosen > rejected).astype(float)
    found: dict[str, Any] = {
        "log-prob of chosen": mean(chosen),
        "log-prob of rejected": mean(rejected),
        "margin, chosen - rejected": mean(chosen - rejected),
        "log-odds ratio": mean(ratio.numpy()),
        "preference accuracy": mean(ranked),
    }
    categories = np.array(values["category"])
    names = sorted(set(values["category"])) if len(set(values["category"])) > 1 else []
    found |= {f"  {name} ({(categories == name).sum()})": mean(ranked[categories == name]) for name in names}
    if "reward" in values:
        margins = np.array(values["reward"])
        found |= {
            "preference accuracy of DPO's own reward": mean((margins > 0).astype(float)),
            "DPO's own margin": mean(margins),
        }
    return found


def mean(values: np.ndarray) -> Estimate | float:
    """Return a mean with its interval over pairs; a single pair has none."""
    return estimate(values[None]) if len(values) > 1 else float(values.mean())


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
