"""Errors of Hydra and OmegaConf about a configuration, in one line of plain words."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from launch.config.trl_options import trl_options
from recipes.system.errors import UserError
from recipes.system.paths import ROOT

CONF = ROOT / "conf"


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a UserError of one line.

    Raises:
        UserError: Hydra or OmegaConf raised.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from None


def explain(error: BaseException) -> str:
    """Return one line that says what is wrong and what to do, whatever the chain of exceptions."""
    chain = [error]
    while cause := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__):
        chain.append(cause)
    text = "\n".join(str(link) for link in chain)
    ours = re.search(r"UserError raised while resolving interpolation: (.*)", text)
    if ours:
        return ours.group(1)
    return unknown_profile(text) or unknown_key(text) or missing_value(text) or wrong_type(text) or short(chain)


def unknown_profile(text: str) -> str | None:
    """Say that a profile does not exist, and name those that do."""
    found = re.search(r"Could not find '(\w+)/(.+)'", text)
    if not found:
        return None
    group, name = found.groups()
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return f"{group}={name}: no file conf/{group}/{name}.yaml; choose from {', '.join(names)}{nearest(name, names)}"


def unknown_key(text: str) -> str | None:
    """Say that an option does not exist, and name the nearest one."""
    found = re.search(r"Key '(\w+)' (?:is )?not in (?:struct|'(\w+)')", text)
    if not found:
        return None
    key = found.group(1)
    place = re.search(r"full_key: ([\w.]+)", text)
    path = place.group(1) if place else key
    where = re.search(r"In '([\w/.-]+)'", text)
    section = path.split(".")[0]
    known = list(trl_options().get(section, {}))
    file = f" (in conf/{where.group(1)}.yaml)" if where and where.group(1) != "config" else ""
    return f"{path}: no such option{file}{nearest(key, known)}; `python -m launch --cfg job` lists all"


def missing_value(text: str) -> str | None:
    """Say that a value is missing."""
    found = re.search(r"Missing mandatory value: [\w.]+", text)
    place = re.search(r"full_key: ([\w.]+)", text)
    return f"{place.group(1)} must be given: add {place.group(1)}=…" if found and place else None


def wrong_type(text: str) -> str | None:
    """Say which type an option takes."""
    found = re.search(r"(Value '.*' of type '\w+' could not be converted to \w+)", text)
    place = re.search(r"full_key: ([\w.]+)", text)
    return f"{place.group(1)}: {found.group(1)}" if found and place else None


def nearest(name: str, known: list[str]) -> str:
    """Suggest what was meant, if a known name is close."""
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def short(chain: list[BaseException]) -> str:
    """Return the innermost message in one line: it caused the others."""
    return " ".join(str(chain[-1]).split()) or type(chain[-1]).__name__
