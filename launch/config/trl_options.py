"""TRL's options under TRL's own names, mirrored from its dataclasses, their only source.

OmegaConf cannot hold all of their types, so each option keeps its name and default, and its type where that is int,
float, bool or an optional of these; the rest is `Any`. An upgrade of TRL therefore needs no change here.
"""

import dataclasses
import enum
import json
import typing
from importlib.metadata import version
from typing import Any

from launch.config.quiet import quieten
from recipes.config import write_json
from recipes.methods import METHODS
from recipes.system.fingerprint import digest, fingerprint
from recipes.system.paths import ROOT

STAGES = tuple(METHODS)
CACHE = ROOT / ".cache"
TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "int?": int | None,
    "float?": float | None,
    "bool?": bool | None,
    "any": Any,
}
REQUIRED = "???"  # OmegaConf's marker for a value that must be given


def kind(annotation: Any) -> str:
    """Return the name in `TYPES` that stands for a field's annotation."""
    members = set(typing.get_args(annotation) or [annotation])
    plain = members - {type(None)}
    if len(plain) == 1 and plain <= {int, float, bool}:
        return plain.pop().__name__ + ("?" if type(None) in members else "")
    return "any"


def mirror(source: type) -> dict[str, list[Any]]:
    """Return name -> [kind, default] of every option of one of TRL's dataclasses."""
    hints = typing.get_type_hints(source)
    options = {}
    for option in dataclasses.fields(source):
        if option.init:
            options[option.name] = [kind(hints[option.name]), plain_default(option)]
    return options


def plain_default(option: "dataclasses.Field[Any]") -> Any:
    """Return a field's default as YAML would write it."""
    if option.default_factory is not dataclasses.MISSING:
        return option.default_factory()
    value = REQUIRED if option.default is dataclasses.MISSING else option.default
    return value.value if isinstance(value, enum.Enum) else value


def import_trl_options() -> dict[str, dict[str, list[Any]]]:
    """Mirror TRL's dataclasses; importing TRL takes 5-15 seconds."""
    quieten()
    from trl import ModelConfig

    sources: dict[str, type] = {"model": ModelConfig} | {name: of.config_class() for name, of in METHODS.items()}
    return {name: mirror(source) for name, source in sources.items()}


def trl_options() -> dict[str, dict[str, list[Any]]]:
    """Return TRL's options, from a file named after the installed versions when there is one."""
    versions = [version(name) for name in ("trl", "transformers", "accelerate", "torch")]
    code = fingerprint("launch.config.trl_options", *(method.module for method in METHODS.values()))
    path = CACHE / f"trl-options-{digest([versions, code])}.json"
    try:
        kept = json.loads(path.read_text())
        if is_mirror(kept):
            return kept
    except (OSError, ValueError):
        pass  # missing or damaged: it is written again
    options = import_trl_options()
    try:
        path.parent.mkdir(exist_ok=True)
        write_json(path, options)
    except OSError:
        pass  # a read-only checkout: slower, not wrong
    return options


def is_mirror(kept: Any) -> bool:
    """Whether a file holds what `import_trl_options` returns."""
    if not isinstance(kept, dict) or kept.keys() != {"model", *STAGES}:
        return False
    options = [option for part in kept.values() if isinstance(part, dict) for option in part.values()]
    return all(map(bool, kept.values())) and all(
        isinstance(option, list) and len(option) == 2 and option[0] in TYPES for option in options
    )
