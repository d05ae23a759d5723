"""The options in which the stages of a comparison differ."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.results.statistics import ABSENT
from recipes.config import SPLIT, read_config, splits_alike

# Paths, values that follow from other options, and a secret: no differences between experiments.
UNSAID = {
    "stage",
    "digest",
    "start",
    "start_revision",
    "pairs",
    "demonstrations",
    "versions",
    "options.output_dir",
    "options.run_name",
    "options.hub_token",
    "options.activation_checkpointing",  # changes no result
}


def differences(stages: dict[str, Path]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the options in which stages differ, as two tables, head first.

    The first has options that at least two of the stages have, with different values; the second those that only one of
    them has and sets. `stages` is name -> directory.

    Raises:
        UserError: a stage's configuration is missing or damaged.
    """
    found = {name: dict(said(read_config(path))) for name, path in stages.items()}
    options = dict.fromkeys(option for values in found.values() for option in values)
    head = ["option", *stages]
    differing, particular = [head], [head]
    for option in options:
        cells = [text(values[option]) if option in values else ABSENT for values in found.values()]
        known = [cell for values, cell in zip(found.values(), cells, strict=True) if option in values]
        line = [option.removeprefix("options."), *cells]
        if len(known) == 1 < len(cells) and known != ["null"]:
            particular.append(line)
        elif len(set(known)) > 1:
            differing.append(line)
    return differing, particular


def said(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a stage that can make another experiment of it, by dotted name."""
    split = {f"options.{name}" for name in SPLIT} if splits_alike(config["options"]) else set()
    return ((name, value) for name, value in flat(config) if name not in UNSAID | split)


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of nested dictionaries with its dotted name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def text(value: Any) -> str:
    """Return a value in command-line syntax."""
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
