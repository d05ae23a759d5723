"""Batches of sequences that are alike in length, so that little of them is padding."""

from collections.abc import Iterator

TOKENS = 16_384  # of one batch, with padding


def by_length(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first, each of at most `budget` tokens once padded."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
