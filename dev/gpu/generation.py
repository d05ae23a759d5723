"""Tokens per second of sampled responses: our loop, which rows leave as they stop, and `model.generate`."""

import random
import time
from collections.abc import Callable
from typing import Any

import torch

from dev.bench.generation import generate
from dev.bench.shapes import SHAPES
from dev.bench.workload import build_model
from eval.answers.batching import room_for_responses
from eval.answers.decode import decode
from eval.answers.store import Sampling

PROMPT = 128  # tokens


def generation(model: str, prompts: int, limit: int) -> dict[str, Any]:
    """Return the tokens per second of both loops; a random model never stops, so all responses have `limit` tokens."""
    gpu = torch.cuda.is_available()
    policy = build_model(model, torch.bfloat16 if gpu else torch.float32).eval()
    draw = random.Random(0)
    asked = [[draw.randrange(3, SHAPES[model].vocabulary) for _ in range(PROMPT)] for _ in range(prompts)]
    budget = room_for_responses(policy)  # tokens of a batch, the same in both
    size = max(1, budget // (PROMPT + limit))
    loops: dict[str, Callable[[], Any]] = {
        "ours": lambda: list(decode(policy, [], [(ids, 0) for ids in asked], Sampling(limit, 1.0), budget)),
        "generate": lambda: [generate(policy, [], asked[at : at + size], 0, limit) for at in range(0, prompts, size)],
    }
    rates = {name: prompts * limit / seconds(loop) for name, loop in loops.items()}
    return {**rates, "prompts": prompts, "limit": limit}


def seconds(loop: Callable[[], Any]) -> float:
    """Return how long a loop takes the second time."""
    for _ in range(2):
        started = time.perf_counter()
        loop()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return time.perf_counter() - started
