"""Which tokens of a row each method trains, and how; tests/test_show.py compares this with the trainers' losses."""

from dataclasses import dataclass, replace
from typing import Any

from recipes.data.columns import SIDES
from recipes.methods import METHODS, PACKED, Method


@dataclass(frozen=True)
class Masked:
    """One sequence that a method reads, with its masks."""

    method: str  # its label; several where they read the same
    response: str  # "chosen" or "rejected"; empty where a method reads one
    ids: list[int]
    likelihood: list[bool]  # in the NLL term: trained to become likelier
    compared: list[bool]  # in the preference term: counts for one response against the other

    @property
    def name(self) -> str:
        """The method, and which response."""
        return f"{self.method} {self.response}".rstrip()


def masks(row: dict[str, Any], options: dict[str, dict[str, Any]]) -> list[Masked]:
    """Return the sequences that methods read of a row with ids; `options` has each method's, under TRL's names.

    Left out are a reward model, which has no loss on tokens, and RLOO, which trains on samples.
    """
    policies = [name for name in PACKED if METHODS[name].answers]
    return [found for name in policies for found in sequences(METHODS[name], row, options[name])]


def merged(found: list[Masked]) -> list[Masked]:
    """Return sequences once where several methods read the same with the same masks."""
    alike: dict[tuple[Any, ...], list[Masked]] = {}
    for one in found:
        key = (one.response, *(tuple(values) for values in (one.ids, one.likelihood, one.compared)))
        alike.setdefault(key, []).append(one)
    return [
        replace(first, method=", ".join(one.method for one in (first, *others))) for first, *others in alike.values()
    ]


def sequences(method: Method, row: dict[str, Any], options: dict[str, Any]) -> list[Masked]:
    """Return the sequences that one method reads: a dialogue with each response, or with the chosen one."""
    span = method.nll(options)
    compares = method.pairs and options.get("loss_type") not in ("sft", ["sft"])
    found = []
    reads = [name for name in SIDES[: 1 + method.pairs] if row[f"{name}_ids"]]
    if len(reads) < 1 + method.pairs and not {*reads} & {*method.unpaired}:
        return []
    for response in reads:
        nll = span if response == "chosen" else None
        prompt, ids = row["prompt_ids"], row[f"{response}_ids"]
        likelihood = mask(len(prompt), len(ids), nll == "full", nll is not None)
        which = response if method.pairs else ""
        compared = mask(len(prompt), len(ids), False, compares)
        found.append(Masked(method.label, which, prompt + ids, likelihood, compared))
    return found


def mask(prompt: int, response: int, in_prompt: bool, in_response: bool) -> list[bool]:
    """Return the mask of a dialogue; its first token is given to the model, never predicted, so no loss covers it."""
    flags = [in_prompt] * prompt + [in_response] * response
    return [False, *flags[1:]]
