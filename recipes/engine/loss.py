"""What a method's loss is a function of, and what it returns: log-probs of pairs, and a loss of each pair."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

LN2 = math.log(2)


@dataclass(frozen=True)
class LogProbs:
    """Log-probs of pairs under one model, summed over scored tokens, in float32 at least; each of shape (pairs,).

    With `nll_span=completion` no token of a prompt is scored: its sum and its count are 0.
    """

    prompt: Tensor
    chosen: Tensor
    rejected: Tensor
    prompt_tokens: Tensor  # how many were summed over, int64
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @classmethod
    def of(cls, sums: Tensor, counts: Tensor) -> "LogProbs":
        """Build them of sums and token counts, each (3, pairs): of prompts, chosen and rejected responses."""
        return cls(*sums.unbind(), *counts.unbind())

    @property
    def mean_chosen(self) -> Tensor:
        """The chosen response's log-prob per token."""
        return self.chosen / self.chosen_tokens

    @property
    def mean_rejected(self) -> Tensor:
        """The rejected response's log-prob per token."""
        return self.rejected / self.rejected_tokens

    @property
    def nll(self) -> Tensor:
        """The negative log-likelihood of prompt and chosen response, summed over their scored tokens."""
        return -(self.prompt + self.chosen)


@dataclass(frozen=True)
class Loss:
    """A method's loss: the mean of `preference` over pairs plus the mean of `nll` over tokens, where there are such.

    Every tensor has the shape (pairs,).
    """

    preference: Tensor | None = None
    nll: Tensor | None = None  # summed over the pair's tokens; the trainer divides by those of the optimizer step
    rewards: tuple[Tensor, Tensor] | None = None  # implicit ones of the chosen and the rejected response, for the log
    metrics: dict[str, Tensor] = field(default_factory=dict)  # what else is logged: name -> values


def log_odds(logp: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of p = exp(`logp`), equation 4 of arXiv:2403.07691, with gradients that stay finite.

    In float32 at least, of any shape. Where p cannot be told from 1 in that dtype, it is taken as 1 - eps, and
    its gradient is zero: stock TRL has infinity and NaN there.
    """
    logp = logp.to(torch.promote_types(logp.dtype, torch.float32))
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # log(1 - p) cancels for p near 1 in one form, for p near 0 in the other (Mächler 2012, "log1mexp").
    log_rest = torch.where(logp < -LN2, torch.log1p(-logp.exp()), torch.log(-torch.expm1(logp)))
    return logp - log_rest
