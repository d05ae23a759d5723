"""A made profile: registered with Hydra as if it were a file of `conf/`, and written as one on request."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from recipes.config import write_text
from recipes.system.paths import ROOT, exists, expanded

CONF = ROOT / "conf"
NO_TEXT = re.compile(r"nan|inf|true|false|null|\d[\d_.]*e\d+")  # what Hydra reads as something else


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
    return name if re.search("[a-z]", name) and not NO_TEXT.fullmatch(name) else f"own-{name}".rstrip("-")


def profile_of(group: str, name: str) -> dict[str, Any] | None:
    """Return what a file of `conf/` holds; None if there is none of that name."""
    path = CONF / group / f"{name}.yaml"
    known = re.fullmatch(r"[\w.+-]+", name) and path.is_file()
    return yaml.safe_load(path.read_text()) if known else None


def written(group: str, **values: str | None) -> str | None:
    """Return the only file of `conf/` with these values: it was written for this very model or data set."""
    found = []
    for path in sorted((CONF / group).glob("*.yaml")):
        profile = profile_of(group, path.stem) or {}
        inner = profile.get("model", profile) if group == "model" else profile
        if all(same(inner.get(name), value) for name, value in values.items()):
            found.append(path.stem)
    return found[0] if len(found) == 1 else None


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or two spellings of one path."""
    if one == other or not (isinstance(one, str) and isinstance(other, str)):
        return bool(one == other)
    return exists(one) and exists(other) and expanded(one).resolve() == expanded(other).resolve()


def named_apart(group: str, profile: Profile, made: Sequence[tuple[str, Profile]]) -> Profile:
    """Return a profile with a name that no file of `conf/` has, nor another profile that was made."""
    for number in count(1):
        named = renamed(group, profile, profile.name if number == 1 else f"{profile.name}-{number}")
        others = [other for of, other in made if (of, other.name) == (group, named.name)]
        if not (CONF / group / f"{named.name}.yaml").exists() and all(other == named for other in others):
            return named
    raise AssertionError


def renamed(group: str, profile: Profile, name: str) -> Profile:
    """Return a profile under another name."""
    if group == "model":
        return replace(
            profile, name=name, values={**profile.values, "model": {**profile.values["model"], "name": name}}
        )
    return replace(profile, name=name, values={**profile.values, "name": name})


def register(group: str, profile: Profile) -> None:
    """Let Hydra find a profile under its name."""
    package = {"package": "_global_"} if group == "model" else {}
    ConfigStore.instance().store(group=group, name=profile.name, node=profile.values, **package)


def write(group: str, profile: Profile) -> Path:
    """Write a profile as a file of `conf/`; return its path."""
    path = CONF / group / f"{profile.name}.yaml"
    head = ["# @package _global_"] if group == "model" else []
    comments = [f"# {line}" for line in [*profile.comments, *(f"To be checked: {doubt}." for doubt in profile.doubts)]]
    body = yaml.safe_dump(profile.values, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, "\n".join([*head, *comments, body]))
    return path
