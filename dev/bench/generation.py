"""Responses per second in the embedded world: one by one, in static batches, and as in the evaluation.

    python -m dev.bench.generation [SESSION or stage directory] [rounds=5] [prompts=400]

One by one and static batches use `model.generate`; a static batch lasts until its last row has stopped, while rows
leave ours (eval.answers.decode) as they stop. The three take turns, so that a busy machine affects all of them, and
medians are compared. Responses to held-out prompts are sampled at temperature 1; one by one covers a tenth of the
prompts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from eval.answers.batching import by_length, room_for_responses
from eval.answers.decode import decode, left_padded
from eval.answers.load import load
from eval.answers.store import Sampling
from eval.commands.cli import run, stages
from recipes.data.pairs import open_pairs
from recipes.system.commands import output

LIMIT = 64  # tokens of a response


def generate(model: Any, stops: list[int], prompts: list[list[int]], pad: int, limit: int = LIMIT) -> None:
    """Respond to one batch with the library's own loop, with at most `limit` tokens per prompt."""
    model.generation_config = GenerationConfig()  # none of the checkpoint's own settings
    drawn = {"do_sample": True, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(max_new_tokens=limit, eos_token_id=stops or None, pad_token_id=pad, **drawn)
    ids, mask = (tensor.to(model.device) for tensor in left_padded(prompts))
    with torch.inference_mode():
        model.generate(ids, attention_mask=mask, generation_config=config)


def measure(directory: Path, prompts: list[list[int]], rounds: int) -> dict[str, list[float]]:
    """Return the responses per second of each side, one value per round."""
    model, tokenizer, stops = load(directory)
    pad: Any = tokenizer.pad_token_id
    few = prompts[: max(1, len(prompts) // 10)]
    budget = room_for_responses(model)
    batches = [[prompts[n] for n in batch] for batch in by_length([len(ids) + LIMIT for ids in prompts], budget)]
    asked = [(ids, 0) for ids in prompts]
    sides: dict[str, tuple[int, Callable[[], Any]]] = {
        "one by one": (len(few), lambda: [generate(model, stops, [ids], pad) for ids in few]),
        "static batches": (len(prompts), lambda: [generate(model, stops, batch, pad) for batch in batches]),
        "ours": (len(prompts), lambda: list(decode(model, stops, asked, Sampling(LIMIT, 1.0), budget))),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (count, answer) in sides.items():
            start = time.perf_counter()
            answer()
            rates[name].append(count / (time.perf_counter() - start))
    return rates


@dataclass
class Options:
    """The options of the command line."""

    rounds: int = 5
    prompts: int = 400


def main(names: list[str], options: Options) -> None:
    """Measure every named model, or those of the newest session, and print."""
    output.print(f"{torch.get_num_threads()} threads, medians of {options.rounds} rounds (least-most)")
    known = stages(names)
    pairs = next(settings["pairs"] for settings in known.values() if "pairs" in settings)
    prompts = list(open_pairs(Path(pairs))["test"]["prompt_ids"])[: options.prompts]
    for directory in known:
        rates = measure(directory, prompts, options.rounds)
        alone = statistics.median(rates["one by one"])
        for name, found in rates.items():
            middle = statistics.median(found)
            spread = f"{middle:.0f} responses/s ({min(found):.0f}-{max(found):.0f})"
            output.print(f"{directory.name}, {name}: {spread}, {middle / alone:.1f}x", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
