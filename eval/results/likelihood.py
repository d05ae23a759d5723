"""Measure a stage's log-probs of every pair: of its held-out ones, or of a file's; and those of any weights."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Rows
from datasets import disable_caching, disable_progress_bars
from peft import PeftModel

from eval.answers.load import context, load, load_alone, load_renderer
from eval.answers.log_probs import mean_log_probs
from eval.results.clusters import clusters
from eval.results.result import measured
from eval.results.session import read_measured
from recipes.config import UserError, read_config, write_json
from recipes.data.chat import Renderer
from recipes.data.columns import check_columns
from recipes.data.pairs import open_pairs
from recipes.data.rows import as_pairs
from recipes.data.sources import load_files
from recipes.data.tokenize import Tokenise
from recipes.engine.loss import log_odds
from recipes.methods import METHODS
from recipes.profiles import Dataset
from recipes.system.commands import output

SIDES = ("chosen", "rejected")
CATEGORIES = ("category", "subset")  # columns that name a pair's kind: the first that there is


def measure(directory: Path, pairs: Path, reference: bool) -> dict[str, Any]:
    """Return a model's log-probs of every pair, measuring those not yet measured.

    The result, also a file beside the model, has lists with a value per pair: `chosen` and `rejected` (means per
    token), `tokens` of each, `category`, `cluster` of the prompt, and with a reference model `reward`, the margin of
    chosen over rejected.

    Raises:
        UserError: the pairs cannot be read, or none of them can be scored.
    """
    config = read_config(directory)
    method = METHODS.get(config["stage"])
    judged = reference and method is not None and method.reference_passes > 0
    content = (pairs if pairs.is_file() else pairs / "manifest.json").read_bytes() if pairs.exists() else b""
    record = (directory / "record.json").read_bytes()
    digest = hashlib.sha256(content + record).hexdigest()
    result = measured(directory, {"pairs": str(pairs), "content": digest, "reference": judged}, "likelihood")
    if result.exists():
        return read_measured(result, SIDES)
    rows = scorable(directory, pairs)
    model, _, stops = load(directory)
    values: dict[str, Any] = {"pairs": str(pairs), "category": list(rows["category"]), "cluster": clusters(rows)}
    values["tokens"] = {side: [len(ids) for ids in rows[f"{side}_ids"]] for side in SIDES}
    values |= {side: mean_log_probs(model, rows, f"{side}_ids", stops[0]) for side in SIDES}
    del model  # another is loaded in its place
    if judged:
        values["beta"] = float(config["options"]["beta"])
        values["reward"] = reward_margins(values, load_alone(config["start"], config["start_revision"]), rows, stops)
    result.parent.mkdir(exist_ok=True)
    write_json(result, values)
    return values


def log_odds_ratios(values: dict[str, Any]) -> np.ndarray:
    """Return what `measure` returned as the log-odds ratio of each pair's responses, of probabilities per token."""
    chosen, rejected = (log_odds(torch.tensor(values[side], dtype=torch.float64)) for side in SIDES)
    return (chosen - rejected).numpy()


@cache  # several stages start from one model
def of_weights(
    weights: str, revision: str | None, adapter: str | None, pairs: Path, most: int
) -> dict[str, list[float]]:
    """Return the log-probs of the first `most` held-out pairs, 0 for all, under any weights, or an adapter of them."""
    rows = held_out(pairs)
    rows = rows.select(range(min(len(rows), most or len(rows))))
    model = load_alone(weights, revision)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload().eval()
    return {side: mean_log_probs(model, rows, f"{side}_ids", pad=0) for side in SIDES}


def reward_margins(values: dict[str, Any], reference: Any, rows: Rows, stops: list[int]) -> list[float]:
    """Return the implicit reward margin of each pair, DPO's and KTO's."""
    rewards = {}
    for side in SIDES:
        ratio = np.array(values[side]) - np.array(mean_log_probs(reference, rows, f"{side}_ids", stops[0]))
        rewards[side] = values["beta"] * np.array(values["tokens"][side]) * ratio
    return (rewards["chosen"] - rewards["rejected"]).tolist()


def held_out(pairs: Path) -> Any:
    """Return the prepared held-out pairs.

    Raises:
        UserError: there are none, only responses without a partner.
    """
    rows = open_pairs(pairs)["test"]
    if not len(rows):
        raise UserError(f"{pairs} holds out responses without a partner alone, and there are no pairs to measure on")
    return rows


def scorable(directory: Path, pairs: Path) -> Rows:
    """Return pairs as ids with their `category`: the prepared test split, or a file's, tokenized for this model.

    Raises:
        UserError: they cannot be read, or none is left.
    """
    if pairs.is_dir():
        rows = held_out(pairs)
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
    pairs = as_pairs(source.rows, None, {"source": "file"})
    pairs = pairs.add_column("category", [categories[number] for number in pairs["row"]])
    return pairs.map(Tokenise(render, Dataset("file", "file")), batched=True)
