"""What each change to the optimizer step is worth: without it, then with it, in one process.

Not in turns: Liger changes classes of Transformers for the rest of the process.
"""

import gc
import statistics
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch

from dev.bench.measure import Case, measure
from dev.gpu.job import Skip
from dev.gpu.speed import Data
from recipes.engine import log_probs
from recipes.training.arguments import LOSSES

ROUNDS = 2
# Options of the trainer, and the package that they need.
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "torch.compile": ({"torch_compile": True}, "torch"),
    "Liger's norms, rotary embeddings and MLPs": (
        {"use_liger_kernel": True, "liger_kernel_config": dict.fromkeys(LOSSES, False)},
        "liger_kernel",
    ),
    "8-bit Adam": ({"optim": "adamw_8bit"}, "bitsandbytes"),
    "activations computed again": ({"activation_checkpointing": True, "gradient_checkpointing": True}, "torch"),
}
# Constants of recipes.engine.log_probs: how much of the LM head is computed at once, and how much of it is kept.
CHUNKS = {
    "the head's logits computed again": {"KEPT_CHUNKS": 0},
    "four times as many of the head's logits at once": {"CHUNK_LOGITS": 2**26, "KEPT_CHUNKS": 2},
    "sixteen times as many of the head's logits at once": {"CHUNK_LOGITS": 2**28, "KEPT_CHUNKS": 0},
}


def change(name: str, case: Case, data: Data) -> dict[str, Any]:
    """Return medians of pairs/s and peak bytes, `plain` and `changed`; None where memory ran out.

    Raises:
        Skip: the change's package is not installed.
    """
    pairs = data.pairs(case, 0)
    options, package = CHANGES.get(name, ({}, "torch"))
    if find_spec(package) is None:
        raise Skip(f"{package} is not installed")
    changed = replace(case, options=tuple(options.items()))

    def again() -> dict[str, Any]:
        with ExitStack() as patches:
            for constant, value in CHUNKS.get(name, {}).items():
                patches.enter_context(patch.object(log_probs, constant, value))
            return measure(changed, pairs)

    sides: dict[str, list[dict[str, Any]]] = {"plain": [], "changed": []}
    for side, run in (("plain", lambda: measure(case, pairs)), ("changed", again)):
        for _ in range(ROUNDS):
            sides[side].append(run())
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return {side: medians(found) for side, found in sides.items()}


def medians(found: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return the medians over rounds."""
    if not all(found):
        return None
    return {name: statistics.median(of[name] for of in found) for name in ("pairs_per_second", "peak_bytes")}
