"""A mixture of data sets: how many rows of each source, and which ones; determined by `dataset.seed`."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from recipes.config import UserError
from recipes.profiles import Dataset


def check_shares(dataset: Dataset) -> None:
    """Reject shares that do not fit the sources.

    Raises:
        UserError: they do not fit; the message says how.
    """
    for name in ("weights", "counts"):
        shares = getattr(dataset, name)
        if shares and len(shares) != len(dataset.sources):
            raise UserError(
                f"dataset.{name} has {len(shares)} values for {len(dataset.sources)} sources: give one per source"
            )
        if not all(0 < share < float("inf") for share in shares):
            raise UserError(f"dataset.{name}={shares}: every value must be above 0; to exclude a source, remove it")
    if dataset.weights and dataset.counts:
        raise UserError("dataset.weights and dataset.counts exclude each other: set one of them")


def choose(sources: Sequence[str], names: Sequence[str], dataset: Dataset) -> list[int]:
    """Return the indices of a mixture's rows, shuffled; `sources` names each row's source, `names` all in order.

    With weights no row is repeated: sources are reduced until their shares are right.

    Raises:
        UserError: a source has fewer rows than its count.
    """
    rows: dict[str, list[int]] = {name: [] for name in names}
    for index, source in enumerate(sources):
        rows[source].append(index)
    random = Random(dataset.seed)
    chosen: list[int] = []
    for name, count in zip(names, sizes([len(rows[name]) for name in names], dataset), strict=True):
        if not count:
            raise UserError(f"dataset.weights leave no row of {name}: raise its weight, or remove it")
        if count > len(rows[name]):
            raise UserError(
                f"dataset.counts asks for {count} rows of {name}, which has {len(rows[name])} usable ones: lower it"
            )
        chosen += random.sample(rows[name], count)
    random.shuffle(chosen)
    return chosen


def sizes(available: list[int], dataset: Dataset) -> list[int]:
    """Return how many rows to take from each source."""
    if dataset.counts:
        return dataset.counts
    if not dataset.weights:
        return available
    total = min(count / weight for count, weight in zip(available, dataset.weights, strict=True))
    return [int(total * weight + 1e-9) for weight in dataset.weights]


def tally(sources: Sequence[str]) -> dict[str, int]:
    """Return how many rows each source has."""
    return dict(Counter(sources))
