"""The ratios of ORPO: equations 3 to 7 and 16 of arXiv:2403.07691, in float32 and with gradients that stay finite."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LN2 = math.log(2)


def log_odds(logp: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of p = exp(`logp`), equation 4; `logp` is an answer's mean log-prob, equation 3.

    In float32 at least, of any shape. Where p cannot be told from 1 in that dtype, it is taken as 1 - eps, and
    its gradient is zero: stock TRL has infinity and NaN there.
    """
    logp = logp.to(torch.promote_types(logp.dtype, torch.float32))
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # log(1 - p) cancels for p near 1 in one form, for p near 0 in the other (Mächler 2012, "log1mexp").
    log_rest = torch.where(logp < -LN2, torch.log1p(-logp.exp()), torch.log(-torch.expm1(logp)))
    return logp - log_rest


def log_odds_ratio(chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the odds ratio (equation 5), and its log-sigmoid, whose negative is the loss (equation 6).

    Args:
        chosen: mean log-probs of the chosen answers' tokens, shape (pairs,).
        rejected: those of the rejected answers, shape (pairs,).
    """
    ratio = log_odds(chosen) - log_odds(rejected)
    return ratio, logsigmoid(ratio)


def log_probability_ratio(chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the probability ratio (equation 16), and its log-sigmoid; arguments as `log_odds_ratio`'s."""
    ratio = chosen.to(torch.promote_types(chosen.dtype, torch.float32)) - rejected
    return ratio, logsigmoid(ratio)
