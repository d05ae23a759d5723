"""Evaluate one stage directory: held-out log-probs and sampled responses, kept beside the model."""

from pathlib import Path
from typing import Any

from eval.answers.endpoint import Endpoint, host_class
from eval.answers.generate import answer_prompts
from eval.answers.gold import Gold, as_read, gold_of
from eval.answers.load import give_back, load
from eval.answers.log_probs import mean_log_probs
from eval.answers.store import Answer, Sampling
from eval.results.beside import SIDES, Scored, as_rows, beside, losses, sampled_ids, sums, texts_of
from eval.results.clusters import clusters, numbered
from eval.results.judged import judge_responses, right_about
from eval.results.prompts import held_out, held_out_prompts
from eval.results.result import Result, measured
from eval.results.stale import MEASURE
from recipes.config import UserError, write_json
from recipes.system.commands import progress
from recipes.system.fingerprint import fingerprint


def evaluate(directory: Path, settings: dict[str, Any], endpoint: Endpoint | None = None) -> None:
    """Measure a stage's model, with a progress bar over prompts, and write what the table needs beside it.

    Raises:
        UserError: the pairs or the model were removed, or the endpoint fails.
    """
    if not Path(settings["pairs"]).is_dir():
        raise UserError(f"{settings['pairs']} was removed: run the command that trained {directory} again")
    pairs, prompts = held_out(settings), held_out_prompts(settings)
    asked = prompts.select(range(min(len(prompts), settings["prompts"])))
    if len(asked) < 2:
        raise UserError(f"{settings['pairs']}: a single prompt is held out; an interval needs two")
    result = {"settings": settings, "code": fingerprint(MEASURE)}
    result |= {"endpoint": endpoint and {"host": host_class(endpoint.url), "model": endpoint.model}}
    result |= measure(directory, settings, pairs, asked, endpoint)
    if settings.get("judge"):
        give_back()  # the model: beside it the judge may not fit into memory, and later the next model beside the judge
        judge = judge_responses(settings["judge"], list(asked["prompt"]), result)
        right = right_about(judge, Path(settings["pairs"]), embedded=settings["gold"] is True)
        result["judge"] = {"name": judge.name, "right": right.right}
        result["clusters"]["judge"] = right.clusters
        judge.give_back()
    path = measured(directory, settings)
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)


def measure(directory: Path, settings: dict[str, Any], pairs: Any, asked: Any, endpoint: Endpoint | None) -> Result:
    """Return what a stage's model says, and how likely given responses, its own and plain text are.

    The last two also under the base model, and the pairs under the reference model of a method that has one.
    """
    model, tokenizer, stops = load(directory)
    texts, subjects = texts_of(settings)
    gold = gold_of(settings["gold"])
    of_pairs, of_prompts = (clusters(rows, settings["gold"] is True) for rows in (pairs, asked))
    result: Result = {"clusters": {"pairs": of_pairs, "prompts": of_prompts, "passages": numbered(subjects)}}
    result["tokens"] = {side: [*map(len, pairs[f"{side}_ids"])] for side in SIDES}
    samples = settings.get("samples", 1)
    with progress((1 + samples) * len(asked), f"eval  {directory}") as advance:
        for side in SIDES:
            result[side] = mean_log_probs(model, pairs, f"{side}_ids", stops[0])
        drawn, greedy = (
            answer_prompts(directory, list(asked["prompt_ids"]), sampling, advance, endpoint)
            for sampling in samplings(settings)
        )
    result["sampled"], *further = described(asked, drawn, gold)
    result["further"] = [list(row) for row in zip(*further, strict=True)] if further else [[] for _ in drawn]
    (result["greedy"],) = described(asked, greedy, gold)
    said = [
        (prompt, sampled_ids(response, tokenizer, stops[0]))
        for prompt, responses in zip(asked["prompt_ids"], drawn, strict=True)
        for response in responses
    ]
    passages = as_rows(texts, tokenizer, model)
    of_said = Scored(said, sums(model, said, stops[0]))
    of_text = Scored(passages, losses(model, passages, stops[0]))
    del model  # another is loaded in its place
    result |= {"text": of_text.own, **beside(directory, settings, pairs, of_said, of_text, stops[0])}
    result["kl"] = [result["kl"][place : place + samples] for place in range(0, len(said), samples)]
    return result


def samplings(settings: dict[str, Any]) -> tuple[Sampling, Sampling]:
    """Return how responses are drawn: at temperature 1, and greedily."""
    limit, seed = settings["max_new_tokens"], settings["seed"]
    return Sampling(limit, 1.0, settings.get("samples", 1), seed), Sampling(limit, 0.0, 1, seed)


def described(asked: Any, responses: list[list[Answer]], gold: Gold | None) -> list[list[dict[str, Any]]]:
    """Return the responses of each sample, one list for the first response to every prompt, one for the second, …"""
    return [
        [describe(row, response, gold) for row, response in zip(asked, sample, strict=True)]
        for sample in zip(*responses, strict=True)
    ]


def describe(row: Any, response: Answer, gold: Gold | None) -> dict[str, Any]:
    """Return one response with its prompt and, where there is one, its gold reward."""
    prompt = as_read(row["prompt"])
    values: dict[str, Any] = {"prompt": prompt, "text": response.text}
    values |= {"tokens": response.tokens, "stopped": response.stopped}
    return values | (gold(prompt, response.text) if gold else {})
