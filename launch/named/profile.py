"""A made profile: registered with Hydra as if it were a file of `conf/`, and written as one on request."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from recipes.config import UserError, write_text
from recipes.system.paths import ROOT

CONF = ROOT / "conf"
MADE: dict[tuple[str, str], dict[str, Any]] = {}  # (group, name) -> values, of this process


@dataclass(frozen=True)
class Profile:
    """What a file of `conf/model` or `conf/dataset` would hold, and what is said of it."""

    name: str
    values: dict[str, Any]
    lines: list[str]  # what was found
    doubts: list[str] = field(default_factory=list)  # what the user should look at
    comments: list[str] = field(default_factory=list)  # of the file


def plain_name(text: str) -> str:
    """Return a name that can name a directory and a file of `conf/`: lower case, without special characters."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    return name if re.search("[a-z]", name) else f"own-{name}".rstrip("-")


def profile_of(group: str, name: str) -> dict[str, Any] | None:
    """Return what a file of `conf/` holds; None if there is none of that name."""
    path = CONF / group / f"{name}.yaml"
    known = re.fullmatch(r"[\w.+-]+", name) and path.is_file()
    return yaml.safe_load(path.read_text()) if known else None


def register(group: str, profile: Profile) -> str:
    """Let Hydra find a profile; return its name, another one where a different profile has it."""
    names = (profile.name, *(f"{profile.name}-{number}" for number in range(2, 1000)))
    name = next(name for name in names if free(group, name, profile.values))
    values = renamed(group, profile.values, name)
    MADE[group, name] = profile.values
    package = {"package": "_global_"} if group == "model" else {}
    ConfigStore.instance().store(group=group, name=name, node=values, **package)
    return name


def free(group: str, name: str, values: dict[str, Any]) -> bool:
    """Whether no file of `conf/` has a name, and no other profile that was made."""
    return not (CONF / group / f"{name}.yaml").exists() and MADE.get((group, name), values) == values


def renamed(group: str, values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a profile's values with its final name."""
    if group == "model":
        return {**values, "model": {**values["model"], "name": name}}
    return {**values, "name": name}


def write(group: str, profile: Profile) -> str:
    """Write a profile as a file of `conf/`; return its path.

    Raises:
        UserError: there is such a file.
    """
    path = CONF / group / f"{profile.name}.yaml"
    if path.exists():
        raise UserError(f"{path.relative_to(ROOT)} exists already: remove or rename it to have it written again")
    head = ["# @package _global_"] if group == "model" else []
    comments = [f"# {line}" for line in [*profile.comments, *(f"To be checked: {doubt}." for doubt in profile.doubts)]]
    body = yaml.safe_dump(profile.values, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, "\n".join([*head, *comments, body]))
    return str(path.relative_to(ROOT))
