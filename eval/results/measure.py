"""Evaluate one stage directory: held-out log-probs and sampled responses, kept beside the model."""

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from eval.answers.endpoint import Endpoint, host_class
from eval.answers.generate import answer_prompts
from eval.answers.load import load
from eval.answers.log_probs import mean_log_probs
from eval.answers.reward_judge import Judge
from eval.answers.store import Answer, Sampling
from eval.results.result import Result, measured
from eval.results.stale import MEASURE
from pocket.gold import score
from pocket.world import PROMPTS
from recipes.config import UserError, write_json
from recipes.data.prepare import open_pairs
from recipes.system.commands import progress
from recipes.system.fingerprint import fingerprint


def evaluate(directory: Path, settings: dict[str, Any], endpoint: Endpoint | None = None) -> None:
    """Measure a stage's model, with a progress bar over prompts, and write what the table needs beside it.

    Raises:
        UserError: the pairs or the model were removed, or the endpoint fails.
    """
    if not Path(settings["pairs"]).is_dir():
        raise UserError(f"{settings['pairs']} was removed: run the command that trained {directory} again")
    model, _, stops = load(directory)
    pairs: Any = open_pairs(Path(settings["pairs"]))["test"]
    places = distinct(pairs)[: settings["prompts"]]
    if len(places) < 2:
        raise UserError(f"{settings['pairs']}: the test split has a single prompt; an interval needs two")
    asked, samples = pairs.select(places), settings.get("samples", 1)
    result: Result = {
        "settings": settings,
        "clusters": {"pairs": clusters(pairs, settings["gold"]), "prompts": clusters(asked, settings["gold"])},
        "code": fingerprint(MEASURE),
        "endpoint": endpoint and {"host": host_class(endpoint.url), "model": endpoint.model},
    }
    with progress((1 + samples) * len(asked), f"eval  {directory}") as advance:
        for side in ("chosen", "rejected"):
            result[side] = mean_log_probs(model, pairs, f"{side}_ids", stops[0])
        for name, temperature, count in (("sampled", 1.0, samples), ("greedy", 0.0, 1)):
            sampling = Sampling(settings["max_new_tokens"], temperature, count, settings["seed"])
            found = answer_prompts(directory, list(asked["prompt_ids"]), sampling, advance, endpoint)
            described = [
                [describe(row, response, settings["gold"]) for response in responses]
                for row, responses in zip(asked, found, strict=True)
            ]
            result[name] = [first for first, *_ in described]
            if name == "sampled":
                result["further"] = [rest for _, *rest in described]
    if settings.get("judge"):
        result |= judged(settings["judge"], pairs, asked, result)
    path = measured(directory, settings)
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)


def judged(name: str, pairs: Any, asked: Any, result: Result) -> Result:
    """Give each sampled response its `reward` by a judge; return how often the judge is right about held-out pairs."""
    judge = judge_of(name)
    prompts = list(asked["prompt"])
    for responses in (result["sampled"], *zip(*result["further"], strict=True)):
        for response, reward in zip(responses, judge.rewards(prompts, list(responses)), strict=True):
            response["reward"] = reward
    return {"judge": {"name": judge.name, "right": judge.right(pairs)}}


@cache  # the models of a session have one judge
def judge_of(name: str) -> Judge:
    """Return the judge of a name, loaded once."""
    return Judge(name)


def distinct(pairs: Any) -> list[int]:
    """Return the place of the first pair of every prompt: a prompt is asked once, however many pairs it has."""
    first: dict[tuple[int, ...], int] = {}
    for place, ids in enumerate(pairs["prompt_ids"]):
        first.setdefault(tuple(ids), place)
    return list(first.values())


def clusters(pairs: Any, gold: bool) -> list[int]:
    """Return the number of each pair's cluster: of its first user turn, or in the embedded world of the place.

    What a model does wrong for one prompt it often does wrong for its relatives, so they do not vary independently.
    Where all are relatives, each prompt is a cluster.
    """
    firsts = [next((turn["content"] for turn in prompt if turn["role"] == "user"), "") for prompt in pairs["prompt"]]
    names = [PROMPTS[first].place for first in firsts] if gold else firsts
    names = names if len({*names}) > 1 else list(map(str, pairs["prompt_ids"]))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def describe(row: Any, response: Answer, gold: bool) -> dict[str, Any]:
    """Return one response with its prompt and, in the embedded world, its gold reward."""
    prompt = row["prompt"][-1]["content"]
    values = {"prompt": prompt, **asdict(response)}
    if gold:
        worth = score(prompt, response.text)
        values |= {"gold": worth.reward, "right": worth.right, "courtesies": worth.courtesies}
    return values
