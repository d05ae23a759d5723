"""Speed and memory of ORPO's optimizer step, packed and stock TRL, with the forecasts for both."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from dev.bench.measure import Case, measure
from dev.bench.predict import predict
from dev.bench.shapes import SHAPES
from dev.bench.workload import RANK, pairs_of
from launch.config.shape import adapter_parameters, head_parameters, parameters
from recipes.engine.packing import Pair

ENGINES = ("packed", "stock")
ROOM = 0.5  # share of the device's memory that the forecast may fill: for stock TRL in bf16 it was never validated


@dataclass(frozen=True)
class Data:
    """The pairs to train on: from a file and a tokenizer if both are given, else of synthetic lengths."""

    longest: int
    file: str | None = None
    tokenizer: str | None = None

    def pairs(self, case: Case, repeat: int) -> list[Pair]:
        """Return the pairs of one repetition: the same for both engines, different for each repetition."""
        count = case.batch_size * (case.updates + case.warmup)
        found = pairs_of(case.lengths, count * (repeat + 1), self.longest, case.model, self.file, self.tokenizer)
        return found[count * repeat :]


def speed(case: Case, data: Data, repeat: int) -> dict[str, Any]:
    """Return the costs of some optimizer steps, and the forecast; `fits` is False if memory ran out."""
    pairs = data.pairs(case, repeat)
    case = replace(case, checkpointing=needs_checkpointing(case, pairs))
    found = measure(case, pairs)
    predicted = {"predicted_bytes": predict(case, pairs), "checkpointing": case.checkpointing}
    if not found:
        return {"fits": False, **predicted}
    return {"fits": True, **found, **predicted, "flops_per_token": flops_per_token(case)}


def needs_checkpointing(case: Case, pairs: list[Pair]) -> bool:
    """Whether stock TRL would run out of memory without activation checkpointing; both engines then use it."""
    if not torch.cuda.is_available():
        return False
    room = ROOM * torch.cuda.get_device_properties(0).total_memory
    return predict(replace(case, engine="stock", checkpointing=False), pairs) > room


def flops_per_token(case: Case) -> float:
    """Return the FLOPs per useful token, forward and backward: 6 per weight, 4 if it is frozen.

    An embedding look-up is no matrix product; attention's products and recomputed activations do not count.
    """
    shape = SHAPES[case.model]
    weights = parameters(shape) - (0 if shape.tied else head_parameters(shape))
    if case.tuning == "full":
        return 6.0 * weights
    return 4.0 * weights + 6.0 * adapter_parameters(shape, RANK, None)
