"""Evaluate one stage directory: held-out log-probs and sampled responses, kept beside the model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.answers.endpoint import Endpoint, host_class
from eval.answers.generate import answer_prompts
from eval.answers.load import load
from eval.answers.log_probs import mean_log_probs
from eval.answers.store import Answer, Sampling
from eval.results.row import Result
from eval.results.session import measured
from eval.results.stale import MEASURE
from pocket.gold import score
from recipes.config import UserError, write_json
from recipes.data.prepare import open_pairs
from recipes.system.commands import progress
from recipes.system.fingerprint import fingerprint

TEMPERATURES = {"sampled": 1.0, "greedy": 0.0}


def evaluate(directory: Path, settings: dict[str, Any], endpoint: Endpoint | None = None) -> None:
    """Measure a stage's model, with a progress bar over prompts, and write what the table needs beside it.

    Raises:
        UserError: the pairs or the model were removed, or the endpoint fails.
    """
    if not Path(settings["pairs"]).is_dir():
        raise UserError(f"{settings['pairs']} was removed: run the command that trained {directory} again")
    model, _, stops = load(directory)
    pairs: Any = open_pairs(Path(settings["pairs"]))["test"]
    asked = pairs.select(range(min(len(pairs), settings["prompts"])))
    result: Result = {
        "settings": settings,
        "code": fingerprint(MEASURE),
        "endpoint": endpoint and {"host": host_class(endpoint.url), "model": endpoint.model},
    }
    with progress(len(TEMPERATURES) * len(asked), f"eval  {directory}") as advance:
        for answer in ("chosen", "rejected"):
            result[answer] = mean_log_probs(model, pairs, f"{answer}_ids", stops[0])
        for name, temperature in TEMPERATURES.items():
            sampling = Sampling(settings["max_new_tokens"], temperature, seed=settings["seed"])
            found = answer_prompts(directory, list(asked["prompt_ids"]), sampling, advance, endpoint)
            result[name] = [
                describe(row, answers[0], settings["gold"]) for row, answers in zip(asked, found, strict=True)
            ]
    path = measured(directory, settings)
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)


def describe(row: Any, answer: Answer, gold: bool) -> dict[str, Any]:
    """Return one response with its prompt and, in the embedded world, its gold reward."""
    prompt = row["prompt"][-1]["content"]
    values = {"prompt": prompt, **asdict(answer)}
    if gold:
        worth = score(prompt, answer.text)
        values |= {"gold": worth.reward, "right": worth.right, "courtesies": worth.courtesies}
    return values
