"""Values that Hydra's grammar cannot read as they stand, and how they must be typed."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from recipes.config import UserError
from recipes.system.paths import exists

TAKING = ("--cfg", "-c", "--package", "-p")  # flags that the next word belongs to
NAMED = {"dataset.path": "DATASET", "model.model_name_or_path": "MODEL"}  # options whose value needs no quotes there


def literal(value: str) -> str:
    """Return a value in quotes, which Hydra reads as this text."""
    return "'" + value.replace("'", "\\'") + "'"


def refuse_unreadable(words: list[str]) -> None:
    """Reject the first word that Hydra cannot read, or would read as several values although it is one path.

    Raises:
        UserError: the message has the word as it must be typed.
    """
    parser = OverridesParser.create()
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        if name.startswith(("-", "~")) or before in TAKING:
            continue
        if not equals:
            raise UserError(f"{word}: give options as name=value, without spaces around = and commas")
        if value.startswith(",") or (value.endswith(",") and not exists(value)):
            raise UserError(f"{word}: several values are separated by commas without spaces, as in seed=0,1,2")
        try:
            several = parser.parse_override(word).is_sweep_override()
        except HydraException:
            raise UserError(f"{word}: {how(name, value)}") from None
        if several and exists(value):
            raise UserError(f"{word} would be several values: {how(name, value)}")


def how(name: str, value: str) -> str:
    """Return how a value must be typed, in make and after `python -m`."""
    typed = f"{name}={quoted(value)}"
    instead = f'{NAMED[name]}="{value}", or ' if name in NAMED else ""
    return f'quote its special characters: {instead}ARGS="\\"{typed}\\"" (after python -m: "{typed}")'


def quoted(value: str) -> str:
    """Return a value with quotes around it, or around each item of a list."""
    if value.startswith("[") and value.endswith("]"):
        items = [item.strip(" '\"") for item in value[1:-1].split(",")]
        return f"[{','.join(map(literal, items))}]"
    return literal(value.strip("'\""))
