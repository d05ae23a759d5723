"""Evaluate one stage directory: held-out likelihoods and sampled answers, kept beside the model."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from eval.generate import Answer, answers
from eval.likelihood import mean_log_probs
from pocket.world import gold_reward, states_right_fact
from recipes.config import Model, UserError, read_config, write_json
from recipes.data import open_pairs
from recipes.render import stop_ids

TEMPERATURES = {"sampled": 1.0, "greedy": 0.0}


def evaluate(directory: Path, settings: dict[str, Any], result: Path, advance: Callable[[int], None]) -> None:
    """Write everything measured of a stage's model to `result`; `advance` is told how many prompts were answered.

    Raises:
        UserError: the pairs or the model were removed.
    """
    disable_progress_bar()
    if not Path(settings["pairs"]).is_dir():
        raise UserError(f"{settings['pairs']} was removed: the command that trained {directory} makes it anew")
    model, tokenizer, stops = load(directory)
    pairs: Any = open_pairs(Path(settings["pairs"]))["test"]
    asked = pairs.select(range(min(len(pairs), settings["prompts"])))
    measured: dict[str, Any] = {"settings": settings}
    for answer in ("chosen", "rejected"):
        measured[answer] = mean_log_probs(model, pairs, f"{answer}_ids", stops[0])
    for name, temperature in TEMPERATURES.items():
        found = answers(
            *(model, tokenizer, stops, asked["prompt_ids"]),
            *(settings["max_new_tokens"], temperature, settings["seed"], advance),
        )
        measured[name] = [describe(row, answer, settings["gold"]) for row, answer in zip(asked, found, strict=True)]
    result.parent.mkdir(exist_ok=True)
    write_json(result, measured)


def load(directory: Path) -> tuple[Any, PreTrainedTokenizerBase, list[int]]:
    """Return a stage's model, or the untuned one, with its tokenizer and the ids that end an answer.

    Raises:
        UserError: the model was removed.
    """
    config = read_config(directory)
    if config["stage"] != "base" and not (directory / "model").is_dir():
        raise UserError(f"{directory}/model was removed: remove {directory} too, and train it again")
    path, revision = (
        (config["start"], config["start_revision"]) if config["stage"] == "base" else (directory / "model", None)
    )
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    profile = Model(**config["model"])
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    tokenizer.pad_token = profile.pad_token or tokenizer.pad_token
    model: Any = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=dtype)
    return model.to("cuda" if gpu else "cpu").eval(), tokenizer, stop_ids(tokenizer, profile)


def describe(row: Any, answer: Answer, gold: bool) -> dict[str, Any]:
    """Return one answer with its prompt and, in the embedded world, what it is worth."""
    prompt = row["prompt"][-1]["content"]
    values = {"prompt": prompt, **asdict(answer)}
    if gold:
        values |= {"gold": gold_reward(prompt, answer.text), "right": states_right_fact(prompt, answer.text)}
    return values
