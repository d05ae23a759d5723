"""Reject benchmark options that cannot be measured, before the first measurement."""

import argparse
from typing import Any

from dev.bench.shapes import LONGEST, SHAPES
from recipes.config import UserError

LEAST = {"repeats": 1, "batch_size": 1, "batch_sizes": 1, "max_length": 2, "even": 4}


def refuse(given: argparse.Namespace) -> None:
    """Reject numbers that are too small or too large, unknown models, and a file of pairs without a tokenizer.

    Raises:
        UserError: a value is invalid; the message names the option and what is valid.
    """
    options: dict[str, Any] = vars(given)
    for name, least in LEAST.items():
        for value in values(options.get(name)):
            if value < least:
                raise UserError(f"--{name.replace('_', '-')} must be at least {least} (got {value})")
    for model in [*values(options.get("models")), *values(options.get("model"))]:
        if model not in SHAPES:
            raise UserError(f"no model {model}: choose from {', '.join(SHAPES)}")
    if given.max_length is not None and given.max_length > LONGEST:
        raise UserError(f"--max-length must be at most {LONGEST}, the models' context length (got {given.max_length})")
    if bool(given.pairs) != bool(given.tokenizer):
        raise UserError("--pairs and --tokenizer go together: a file of preference pairs, and a tokenizer for it")


def values(value: Any) -> list[Any]:
    """Return an option's values: none, one or several."""
    return [] if value is None else value if isinstance(value, list) else [value]


def refuse_long(even: list[int] | None, longest: int) -> None:
    """Reject dialogues longer than the longest allowed.

    Raises:
        UserError: they are too long; the message names both options.
    """
    for tokens in even or []:
        if tokens > longest:
            raise UserError(f"--even must be at most {longest}, see --max-length (got {tokens})")
