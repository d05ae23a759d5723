"""Metrics logged besides the loss: TRL's, under TRL's names, kept as sums on the device until they are logged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recipes.engine.loss import LogProbs, Loss

SIDES = ("chosen", "rejected")
OF_BOTH = ("accuracies", "margins")


class RunningMeans:
    """Weighted means of named quantities since the last `take`; nothing leaves the device before it."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}  # name -> (sum, weight), float64

    def add(self, sums: dict[str, Tensor], weight: Tensor) -> None:
        """Add scalar sums over `weight` pairs or tokens."""
        for name, value in sums.items():
            found = torch.stack([value.detach().double(), weight.double()])
            self.totals[name] = self.totals[name] + found if name in self.totals else found

    def take(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means and reset, without those of nothing.

        `reduce` sums over all processes, so every process must call this.
        """
        if not self.totals:
            return {}
        names, totals = list(self.totals), reduce(torch.stack(list(self.totals.values()))).tolist()
        self.totals = {}
        found = zip(names, totals, strict=True)
        return {name: total / weight for name, (total, weight) in found if weight}


class Extremes:
    """The smallest and largest of a quantity in an optimizer step; logged are their means over steps, as in TRL."""

    def __init__(self) -> None:
        self.steps: list[list[Tensor]] = []  # of each step, per micro-batch: minus the smallest, and the largest

    def begin_step(self) -> None:
        """Begin an optimizer step; an evaluation is a single one, which need not begin."""
        self.steps.append([])

    def add(self, values: Tensor, weights: Tensor) -> None:
        """Add a micro-batch's values (…, pairs); pairs whose weight is zero do not count."""
        if not self.steps:
            self.begin_step()
        none = torch.tensor(-torch.inf, dtype=values.dtype, device=values.device)
        sides = [torch.where(weights > 0, side, none).max() for side in (-values.detach(), values.detach())]
        self.steps[-1].append(torch.stack(sides))

    def take(self, gather: Callable[[Tensor], Any]) -> tuple[float, float] | None:
        """Return the means over steps since the last call of the smallest and of the largest, and reset.

        `gather` concatenates over all processes, so every process must call this.
        """
        if not self.steps:
            return None
        own = torch.stack([torch.stack(parts).amax(0) for parts in self.steps])
        low, high = gather(own).view(-1, *own.shape).amax(0).mean(0).tolist()
        self.steps = []
        return -low, high


def preference_metrics(loss: Loss, policy: LogProbs, means: bool) -> dict[str, Tensor]:
    """Return TRL's metrics of a preference loss, each of shape (pairs,).

    Args:
        loss: a method's loss; without `rewards` there are no metrics.
        policy: the log-probs that it was computed from.
        means: whether `logps/…` are means over a response's tokens, else sums.
    """
    if loss.rewards is None:
        return {}
    chosen, rejected = loss.rewards
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
        "rewards/margins": chosen - rejected,
        "logps/chosen": policy.mean_chosen if means else policy.chosen,
        "logps/rejected": policy.mean_rejected if means else policy.rejected,
    }


def counting(name: str, counted: Tensor) -> Tensor:
    """Return how much each pair counts in the mean of a metric, shape (pairs,).

    A response's metric is a mean over such responses, one of both over the pairs that have both.

    Args:
        name: the metric's.
        counted: as in `PackedBatch`.
    """
    kind = name.rpartition("/")[2]
    if kind in SIDES:
        return counted[SIDES.index(kind)]
    return counted.prod(0) if kind in OF_BOTH else counted.mean(0)
