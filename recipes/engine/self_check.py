"""Check before training whether a model can be trained on packed pairs, with the model itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AttentionInterface

from recipes.config import UserError
from recipes.engine.attention import PAIRS, pair_attention
from recipes.engine.log_probs import add_scoring
from recipes.engine.packing import Pair, pack
from recipes.engine.rewards import add_rewards
from recipes.engine.tolerance import TOLERANCE, base_of, evaluating, own_log_probs, tolerance
from recipes.methods import stock_everywhere

ELSEWHERE = "{} of its layers attend through Transformers' interface"


@dataclass(frozen=True)
class Scoring:
    """What models of a kind compute of packed pairs, and how."""

    of: str  # in errors
    add: Callable[[Any], None]  # lets a model score packed pairs
    packed: Callable[..., Tensor]  # its scores of pairs then
    alone: Callable[..., Tensor]  # what they should be: from plain forward passes over each dialogue


def add_checked_scoring(model: Any, half: bool, auxiliary_loss: bool = False) -> None:
    """Let `model` compute log-probs of packed pairs, and compare with its own forward pass over each dialogue.

    No list of model types could tell which pass `position_ids` and the packing to their attention, scale their logits,
    or mix tokens in other ways (state spaces, ALiBi). Two synthetic pairs can.

    Args:
        model: a causal language model, possibly with adapters.
        half: whether the trainer computes in half precision.
        auxiliary_loss: whether TRL's trainer would add a mixture of experts' load-balancing loss.

    Raises:
        UserError: log-probs differ, or the model has an auxiliary loss over its tokens.
    """
    text = base_of(model).config.get_text_config()
    balanced = getattr(text, "output_router_logits", False) and getattr(text, "router_aux_loss_coef", 0.0)
    if auxiliary_loss or balanced:
        raise refusal(model, "its auxiliary loss counts every token, and shared prompts would count once")
    add_checked(model, half, LOG_PROBS)


def add_checked_rewards(model: Any, half: bool) -> None:
    """Do the same for a classifier with one output, possibly with adapters, and its rewards.

    Raises:
        UserError: rewards differ.
    """
    add_checked(model, half, REWARDS)


def add_checked(model: Any, half: bool, scoring: Scoring) -> None:
    """Let `model` score packed pairs, and compare.

    Raises:
        UserError: scores differ.
    """
    base = base_of(model)
    # FSDP loads on one process and shards later; ZeRO-3 shards while loading
    if any(weight.is_meta or hasattr(weight, "ds_id") for weight in base.parameters()):
        scoring.add(base)
        return
    exact = all(weight.dtype == torch.float32 for weight in base.parameters() if weight.is_floating_point())
    half = half or not exact
    device, text = next(base.parameters()).device, base.config.get_text_config()
    pad = getattr(text, "pad_token_id", None)
    pairs = [Pair(*(some_ids(text.vocab_size, *span, pad) for span in spans)) for spans in SPANS]
    dialogues = [pair.prompt + answer for pair in pairs for answer in (pair.chosen, pair.rejected)]
    # float32 weights are compared in float32 too: autocast's rounding would hide a small difference
    casts = sorted({half, half and not exact})
    with attending() as layers:
        try:
            of_text = scoring is LOG_PROBS
            may_differ = [tolerance(model, dialogues, cast) if of_text else TOLERANCE[cast] for cast in casts]
            differences = compare(model, scoring, pairs, device, casts)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever an unknown model's code raises
            reason = f"{type(error).__name__}: {error}"
            raise refusal(model, reason if layers else f"{ELSEWHERE.format('none')}; {reason}") from error
    for tolerated, difference in zip(may_differ, differences, strict=True):
        if not difference < tolerated:
            refuse_broken(base)
            reason = f"its {scoring.of} would be off by {difference:.2g}"
            some = len(layers) < getattr(text, "num_hidden_layers", 0)
            raise refusal(model, f"{ELSEWHERE.format('only some')}; {reason}" if some else reason)


def refuse_broken(model: Any) -> None:
    """Reject a model with a weight that is not finite: no engine trains it.

    Raises:
        UserError: it has one; the message names it.
    """
    broken = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    if broken:
        raise UserError(f"the weight {broken} of {model.config.name_or_path} is not finite: copy the model again")


@contextmanager
def attending() -> Iterator[set[nn.Module]]:
    """Collect the attention modules that are called, for the reason of a refusal."""
    found: set[nn.Module] = set()

    def noted(module: nn.Module, *states: Any, **options: Any) -> Any:
        found.add(module)
        return pair_attention(module, *states, **options)

    AttentionInterface.register(PAIRS, noted)
    try:
        yield found
    finally:
        AttentionInterface.register(PAIRS, pair_attention)


def compare(model: Any, scoring: Scoring, pairs: list[Pair], device: torch.device, casts: list[bool]) -> list[float]:
    """Let `model` score packed pairs; return the mean difference from its own scores, with and without autocast."""
    with evaluating(model), torch.no_grad():
        expected = [cast_to(cast, scoring.alone, model, pairs, device) for cast in casts]
        scoring.add(base_of(model))
        found = [cast_to(cast, scoring.packed, model, pairs, device) for cast in casts]
    return [(ours - theirs).abs().mean().item() for ours, theirs in zip(found, expected, strict=True)]


def cast_to(half: bool, score: Callable[..., Tensor], model: Any, pairs: list[Pair], device: torch.device) -> Tensor:
    """Score pairs, under autocast to bf16 if `half`."""
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        return score(model, pairs, device)


# First id and length of prompt, chosen and rejected response: unequal, one with a single token.
SPANS = (((3, 7), (11, 5), (23, 9)), ((31, 4), (41, 8), (53, 1)))


def some_ids(vocabulary: int, first: int, count: int, pad: int | None = None) -> list[int]:
    """Return `count` ids other than `pad`: a classifier scores the last token that is no padding."""
    ids = ((first + 7 * step) % vocabulary for step in range(count))
    return [(token + 1) % vocabulary if token == pad else token for token in ids]


def dialogue_log_probs(model: Any, pairs: list[Pair], device: torch.device) -> Tensor:
    """Return what `packed_log_probs` should return, from two plain forward passes per pair."""
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for pair in pairs:
        border = len(pair.prompt) - 1
        chosen, rejected = (
            own_log_probs(model, torch.tensor([pair.prompt + answer], device=device))
            for answer in (pair.chosen, pair.rejected)
        )
        for part, piece in zip(parts, (chosen[:border], chosen[border:], rejected[border:]), strict=True):
            part.append(piece)
    return torch.cat([piece for part in parts for piece in part])


def packed_log_probs(model: Any, pairs: list[Pair], device: torch.device) -> Tensor:
    """Return the log-probs of all tokens of `pairs` in the order of `pack`."""
    return model(**pack(pairs, "full").to(device).model_inputs())


def dialogue_rewards(model: Any, pairs: list[Pair], device: torch.device) -> Tensor:
    """Return what `packed_rewards` should return, from two plain forward passes per pair."""
    dialogues = [pair.prompt + pair.chosen for pair in pairs] + [pair.prompt + pair.rejected for pair in pairs]
    with probing(model):
        outputs = [model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits for ids in dialogues]
    return torch.cat(outputs)[:, 0]


def packed_rewards(model: Any, pairs: list[Pair], device: torch.device) -> Tensor:
    """Return the rewards of all chosen, then of all rejected responses."""
    with probing(model):
        return model(**pack(pairs, "last").to(device).model_inputs())


@contextmanager
def probing(model: Any) -> Iterator[None]:
    """Let a classifier's head return where a hidden state points along a fixed direction, of size 1 or so.

    Its own weights are zero before the training, and would hide every difference.
    """

    def probe(head: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        states = normalize(inputs[0].float(), dim=-1)
        return (states * torch.linspace(-2, 2, states.shape[-1], device=states.device)).sum(-1, keepdim=True)

    handle = base_of(model).score.register_forward_hook(probe)
    try:
        yield
    finally:
        handle.remove()


LOG_PROBS = Scoring("log-probs", add_scoring, packed_log_probs, dialogue_log_probs)
REWARDS = Scoring("rewards", add_rewards, packed_rewards, dialogue_rewards)


def refusal(model: Any, reason: str) -> UserError:
    """Return the error that says which engine to use."""
    name = f"a {base_of(model).config.get_text_config().model_type} model"
    return UserError(
        f"{name} cannot be trained on packed pairs ({' '.join(reason.split())[:160]}): use {stock_everywhere()}"
    )
