"""Speed and memory of ORPO's optimizer step, packed beside stock TRL, with what the plan says of both."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from dev.bench.measure import Case, measure
from dev.bench.predict import predict
from dev.bench.workload import RANK, SHAPES, pairs_of
from launch.config.shape import adapter_parameters, head_parameters, parameters
from recipes.engine.packing import Pair

ENGINES = ("packed", "stock")
ROOM = 0.5  # of the device's memory that the forecast may fill: of stock TRL in bf16 it was never held to a measurement


@dataclass(frozen=True)
class Data:
    """Which pairs are trained on: a file under a tokenizer where both are given, else made lengths."""

    longest: int
    file: str | None = None
    tokenizer: str | None = None

    def pairs(self, case: Case, repeat: int) -> list[Pair]:
        """Return the pairs of one repetition: the same for both engines, others for each repetition."""
        count = case.batch_size * (case.updates + case.warmup)
        found = pairs_of(case.lengths, count * (repeat + 1), self.longest, case.model, self.file, self.tokenizer)
        return found[count * repeat :]


def speed(case: Case, data: Data, repeat: int) -> dict[str, Any]:
    """Return what some optimizer steps took, and what was predicted; `fits` is False where memory ran out."""
    pairs = data.pairs(case, repeat)
    case = replace(case, checkpointing=needs_checkpointing(case, pairs))
    found = measure(case, pairs)
    predicted = {"predicted_bytes": predict(case, pairs), "checkpointing": case.checkpointing}
    if not found:
        return {"fits": False, **predicted}
    return {"fits": True, **found, **predicted, "flops_per_token": flops_per_token(case)}


def needs_checkpointing(case: Case, pairs: list[Pair]) -> bool:
    """Whether stock TRL would run out of memory without activation checkpointing; both engines train alike."""
    if not torch.cuda.is_available():
        return False
    room = ROOM * torch.cuda.get_device_properties(0).total_memory
    return predict(replace(case, engine="stock", checkpointing=False), pairs) > room


def flops_per_token(case: Case) -> float:
    """Return the FLOPs that one useful token takes, forward and backward: 6 for each weight, 4 where it is frozen.

    Looking up an embedding is no product, and neither attention's products nor recomputed activations count.
    """
    shape = SHAPES[case.model]
    weights = parameters(shape) - (0 if shape.tied else head_parameters(shape))
    if case.tuning == "full":
        return 6.0 * weights
    return 4.0 * weights + 6.0 * adapter_parameters(shape, RANK, None)
