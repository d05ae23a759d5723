"""Does a converted model compute what the run's model does, but for the rounding of its weights?

Both give log-probs to the same tokens, those that the converted model generated. Rounding moves every log-prob a
little; another model, template or position encoding moves some by whole nats. Whether greedy responses are equal says
less: one near tie, and all that follows differs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from recipes.config import UserError

# The largest distance, in nats, that rounding may cause; measured ones are below a third of it (docs/export.md).
MOST = {"f32": 0.02, "f16": 0.1, "bf16": 0.5, "q8_0": 0.5}


@dataclass(frozen=True)
class Distance:
    """Where the two models are farthest apart: the larger of two distances, and at which generated token."""

    nats: float
    place: int


@torch.no_grad()
def distance(model: Any, prompt: list[int], said: list[int], log_probs: list[float]) -> Distance:
    """Return how far the run's model is from generating the tokens that the other did, with its log-probs of them.

    Greedy generation picks what is likeliest, so besides a token's own log-prob, how much likelier the run finds
    another token counts: half of it, since both tokens' log-probs may have moved.
    """
    ids = torch.tensor([prompt + said], device=model.device)
    found = model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    own = found.gather(1, ids[0, len(prompt) :, None])[:, 0]
    moved = (own - torch.tensor(log_probs, device=own.device)).abs()
    apart = torch.maximum(moved, (found.max(dim=1).values - own) / 2)
    place = int(apart.argmax())
    return Distance(float(apart[place]), place)


def farthest(
    model: Any, tokenizer: PreTrainedTokenizerBase, kind: str, said: list[tuple[list[int], dict[str, Any]]]
) -> float:
    """Return the largest distance in nats; `said` are prompts with the generated `ids` and their `log_probs`.

    Raises:
        UserError: it is more than the rounding to `kind` explains, and where; or nothing was generated.
    """
    found = [(distance(model, prompt, one["ids"], one["log_probs"]), one["ids"]) for prompt, one in said if one["ids"]]
    if not found:
        raise UserError("nothing was exported: it generates no token, so it cannot be compared with the run")
    worst, ids = max(found, key=lambda one: one[0].nats)
    if worst.nats > MOST[kind]:
        before = str(tokenizer.decode(ids[: worst.place]))[-60:]
        raise UserError(
            f"nothing was exported: its log-probs are up to {worst.nats:.2f} nats from the run's, and rounding to "
            f"{kind} explains {MOST[kind]}; there it says {tokenizer.decode(ids[worst.place])!r} after {before!r}"
        )
    return worst.nats
