"""A gold reward: an exact score of any response to a prompt, by the embedded world or by a function that is named.

The function, `dataset.gold=file.py:function`, takes the prompt and the response as text and returns a number, the
higher the better. It is code of a local file that the user names; a data set cannot bring one.
"""

import hashlib
import importlib
import math
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from pocket.gold import score
from pocket.pairs import unseen
from recipes.system.errors import UserError
from recipes.system.fingerprint import file_of, fingerprint
from recipes.system.paths import ROOT, expanded

Gold = Callable[[str, str], dict[str, Any]]  # prompt and response -> its `gold` reward, and parts of it


def identity(name: str) -> dict[str, Any]:
    """Return the settings of an evaluation by a named function: its name, and a digest that changes with its code.

    Raises:
        UserError: it names no function of a local file.
    """
    module, path, _ = parts_of(name)
    code = str(fingerprint(module)) if module else path.read_text(encoding="utf-8")
    return {"gold": name, "gold_code": hashlib.sha256(code.encode()).hexdigest()[:12]}


@cache
def gold_of(name: str | bool) -> Gold | None:
    """Return the gold reward of an evaluation's settings: True is the embedded world's; None where there is none.

    Raises:
        UserError: it names no function of a local file.
    """
    if not name:
        return None
    return of_embedded if name is True else of_function(str(name))


def of_embedded(prompt: str, response: str) -> dict[str, Any]:
    """Return the embedded world's reward, its parts, and whether the prompt asks about a place of no pair."""
    worth = score(prompt, response)
    parts = {"gold": worth.reward, "right": worth.right, "courtesies": worth.courtesies}
    return parts | {"unseen": unseen(prompt)}


def of_function(name: str) -> Gold:
    """Return the reward by a function of the user's.

    Raises:
        UserError: there is no such function.
    """
    module, path, wanted = parts_of(name)
    function = getattr(loaded(module, path, name), wanted, None)
    if not callable(function):
        raise UserError(f"dataset.gold={name}: {path} has no function {wanted}")

    def reward(prompt: str, response: str) -> dict[str, Any]:
        return {"gold": number(name, function, prompt, response)}

    return reward


def agreement(name: str, pairs: Any) -> str:
    """Say of how many pairs a function gives the chosen response the higher reward, and how many are even.

    Raises:
        UserError: it fails on a response, gives no finite number, or two for one response.
    """
    reward = gold_of(name)
    assert reward
    if not len(pairs):
        return "gold reward: no held-out pair to compare it with"
    rewards = {side: scored(reward, pairs, side) for side in ("chosen", "rejected")}
    if scored(reward, pairs, "chosen") != rewards["chosen"]:
        raise UserError(f"dataset.gold={name} gave two rewards for one response: make it deterministic")
    found = [*zip(rewards["chosen"], rewards["rejected"], strict=True)]
    higher = sum(chosen > rejected for chosen, rejected in found) / len(found)
    even = sum(chosen == rejected for chosen, rejected in found) / len(found)
    return f"gold reward: higher for the chosen response in {higher:.0%} of the held-out pairs, equal in {even:.0%}"


def scored(reward: Gold, pairs: Any, side: str) -> list[float]:
    """Return the rewards of one side's responses."""
    return [reward(as_read(prompt), text)["gold"] for prompt, text in zip(pairs["prompt"], pairs[side], strict=True)]


def as_read(prompt: list[dict[str, str]]) -> str:
    """Return a prompt as judges read it: one question as it is, several turns each after its role."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def number(name: str, function: Callable[[str, str], Any], prompt: str, response: str) -> float:
    """Return what a function of the user's gives for one response.

    Raises:
        UserError: it fails, or gives no finite number.
    """
    try:
        found = function(prompt, response)
        value = float(found)
    except Exception as error:  # whatever a user's code may raise
        raise UserError(f"dataset.gold={name} failed on {response[:60]!r}: {type(error).__name__}: {error}") from None
    if not math.isfinite(value):
        raise UserError(f"dataset.gold={name} gave {found} for {response[:60]!r}: return a finite number")
    return value


def parts_of(name: str) -> tuple[str | None, Path, str]:
    """Return the module that holds a named function, None for a file outside this checkout, its file, and its name.

    Raises:
        UserError: there is no such local file.
    """
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise UserError(f"dataset.gold={name}: write file.py:function, a local file and a function(prompt, response)")
    path = expanded(place)
    if place.endswith(".py") and path.is_file():
        return None, path, function
    found = None if place.endswith(".py") else file_of(place, ROOT)
    if found is None:
        raise UserError(f"dataset.gold={name}: there is no local file {place} (relative to {Path.cwd()})")
    return place, ROOT / found, function


def loaded(module: str | None, path: Path, name: str) -> ModuleType:
    """Return a module, or a file as a module of its own.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        if module:
            return importlib.import_module(module)
        spec = spec_from_file_location(f"gold_{path.stem}", path)
        assert spec and spec.loader
        found = module_from_spec(spec)
        sys.modules[spec.name] = found  # dataclasses look their module up
        spec.loader.exec_module(found)
        return found
    except Exception as error:  # whatever a user's code may raise
        raise UserError(f"dataset.gold={name} cannot be imported: {type(error).__name__}: {error}") from None
