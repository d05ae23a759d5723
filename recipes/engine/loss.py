"""The arguments and the result of a method's loss: log-probs of pairs, and a loss for each pair."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

LN2 = math.log(2)


@dataclass(frozen=True)
class LogProbs:
    """Log-probs of pairs under one model, summed over scored tokens, in float32 at least; each of shape (pairs,).

    With `nll_span=completion` prompts are not scored: their sums and counts are 0.
    """

    prompt: Tensor
    chosen: Tensor
    rejected: Tensor
    prompt_tokens: Tensor  # numbers of summed tokens, int64
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @classmethod
    def of(cls, sums: Tensor, counts: Tensor) -> "LogProbs":
        """Build them from sums and token counts, each (3, pairs): prompts, chosen and rejected responses."""
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
    """A method's loss: the mean of `preference` over pairs plus `nll_weight` times the mean of `nll` over tokens.

    What is absent counts as zero. Every tensor has the shape (pairs,).
    """

    preference: Tensor | None = None
    nll: Tensor | None = None  # summed over the pair's tokens; the trainer divides by the optimizer step's tokens
    nll_weight: float = 1.0
    rewards: tuple[Tensor, Tensor] | None = None  # implicit, of chosen and rejected response, for the log
    metrics: dict[str, Tensor] = field(default_factory=dict)  # other logged values: name -> values


def log_odds(logp: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of p = exp(`logp`), equation 4 of arXiv:2403.07691, with gradients that stay finite.

    In float32 at least, of any shape. If p cannot be distinguished from 1 in that dtype, it is taken as 1 - eps and its
    gradient is zero; stock TRL gives infinity and NaN there.
    """
    logp = logp.to(torch.promote_types(logp.dtype, torch.float32))
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # log(1 - p) cancels for p near 1 in one form, for p near 0 in the other (Mächler 2012, "log1mexp").
    log_rest = torch.where(logp < -LN2, torch.log1p(-logp.exp()), torch.log(-torch.expm1(logp)))
    return logp - log_rest
