"""Which prompts are relatives: an interval takes them for less than as many independent ones."""

from typing import Any

from pocket.world import PROMPTS


def clusters(pairs: Any, embedded: bool | None = None) -> list[int]:
    """Return the number of each pair's cluster; None: whether they are of the embedded world follows from the prompts.

    It is what `dataset.cluster` says of the row, else the first user turn, and in the embedded world the place.
    What a model does wrong for one prompt it often does wrong for its relatives, so they do not vary independently.
    Where all are relatives, each prompt is a cluster.
    """
    firsts = [next((turn["content"] for turn in prompt if turn["role"] == "user"), "") for prompt in pairs["prompt"]]
    if embedded is None:
        embedded = all(first in PROMPTS for first in firsts)
    related = [PROMPTS[first].place for first in firsts] if embedded else firsts
    # pairs that were prepared before there was `dataset.cluster` have no such column
    told = pairs["cluster"] if "cluster" in pairs.column_names else [""] * len(pairs)
    names = [cluster or name for cluster, name in zip(told, related, strict=True)]
    names = names if len({*names}) > 1 else list(map(str, pairs["prompt_ids"]))
    return numbered(names)


def numbered(names: list[str]) -> list[int]:
    """Return a number for each name, equal for equal ones."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]
