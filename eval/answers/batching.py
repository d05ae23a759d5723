"""Batches of sequences of similar length, with little padding."""

from collections.abc import Iterator

TOKENS = 16_384  # of one batch, padding included


def by_length(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first, each of at most `budget` tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
