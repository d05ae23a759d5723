"""Prompts with the responses of another prompt, from which KTO estimates how far the policy has moved."""

from dataclasses import replace

from accelerate.utils import gather_object

from recipes.engine.packing import Pair


def mismatched(batches: list[list[Pair]], process: int, longest: int | None) -> list[list[Pair]]:
    """Give each pair the responses of the one before it in the optimizer step, the first those of the last.

    So each response is read once, whether or not it has a partner.

    The order is that of the data over all processes, which must all call this, so the result does not depend on how
    the step is split. Pairs that do not count keep their responses.

    Args:
        batches: the micro-batches of this process, in order.
        process: its index.
        longest: tokens of a dialogue at most, as in TRL; a long prompt's responses are cut to it.
    """
    shares: list[list[list[Pair]]] = gather_object([batches])
    order = [
        (place, pair)
        for micro_batches in zip(*shares, strict=True)
        for place, pairs in enumerate(micro_batches)
        for pair in pairs
    ]
    counted = [pair for _, pair in order if pair.counted]
    others = iter([*counted[-1:], *counted[:-1]])
    found = [(place, given(pair, next(others), longest) if pair.counted else pair) for place, pair in order]
    own = iter([pair for place, pair in found if place == process])
    return [[next(own) for _ in pairs] for pairs in batches]


def given(pair: Pair, other: Pair, longest: int | None) -> Pair:
    """Return a pair's prompt with another's responses, as far as they fit."""
    room = None if longest is None else longest - len(pair.prompt)
    return replace(pair, chosen=other.chosen[:room], rejected=other.rejected[:room], reference=None)
