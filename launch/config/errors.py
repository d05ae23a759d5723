"""Errors of Hydra and OmegaConf about a configuration, in one line of plain words."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from launch.config.idle import TOKENIZED
from launch.config.schema import Launcher, Root, names_of
from launch.config.trl_options import STAGES, trl_options
from recipes.profiles import Dataset, Hardware, Model, Policies
from recipes.system.errors import UserError, nearest
from recipes.system.paths import ROOT

CONF = ROOT / "conf"
# What may be named besides profiles.
ELSE = {
    "model": ", and neither a directory nor a Hub id (organization/name)",
    "dataset": ", and neither a file, a folder nor a Hub id (organization/name)",
}

# What other tools and people call options of ours.
ELSEWHERE = {
    **{"lr": "learning_rate", "epochs": "num_train_epochs", "steps": "max_steps", "warmup": "warmup_steps"},
    **{"batch": "batch_size", "bs": "batch_size", "lambda": "beta", "seq_length": "max_length"},
}

TYPES = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}


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
    except ValueError as error:
        if "config group override" not in str(error).lower():  # of Hydra, for a profile that is null or a number
            raise
        raise UserError(f"{' '.join(str(error).split())}: name a profile, or leave this option out") from None


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
    found = re.search(r"Could not find '(\w+)/(.*?)'", text)
    if not found:
        return None
    group, name = found.groups()
    if not name:
        return f"{group}= names nothing: give its value, or leave {group}= out"
    if (group, name) == ("hardware", "all"):
        return "hardware=all is a table of what fits where, which only `make plan` prints: name one profile here"
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    meant = nearest(name.lower(), names)
    return (
        f"{group}={name}: no file conf/{group}/{name}.yaml{ELSE.get(group, '')}; choose from {', '.join(names)}{meant}"
    )


def unknown_key(text: str) -> str | None:
    """Say that an option does not exist, and name the nearest one."""
    found = re.search(r"Key '(\w+)' (?:is )?not in (?:struct|'(\w+)')", text)
    if not found:
        return None
    key = found.group(1)
    place = re.search(r"full_key: ([\w.]+)", text)
    path = place.group(1) if place else key
    where = re.search(r"In '([\w/.-]+)'", text)
    section, _, option = path.partition(".")
    if section in STAGES and option in TOKENIZED:
        return f"{path}: no such option; pairs are tokenized once for all methods: set {TOKENIZED[option]} instead"
    file = f" (in conf/{where.group(1)}.yaml)" if where and where.group(1) != "config" else ""
    return f"{path}: no such option{file}{meant(path)} (all options: ARGS=--help=all)"


def meant(path: str) -> str:
    """Suggest the option that was meant: a near miss of the whole name, or the same name in a part that has it."""
    known = names()
    part, _, key = path.rpartition(".")
    key = ELSEWHERE.get(key, key)
    same = [name for name in known if name.rpartition(".")[2] == key]
    own = [name for name in same if name.rpartition(".")[0] == part]
    if same:
        return f"; did you mean {' or '.join(own or same[:3])}?"
    return nearest(path, [name for name in known if name.rpartition(".")[0] == part] or known)


def names() -> list[str]:
    """Return the whole names of all options."""
    parts: dict[str, Iterable[str]] = {
        **{"": names_of(Root), "dataset": names_of(Dataset), "dataset.policies": names_of(Policies)},
        **{"hardware": names_of(Hardware), "launcher": names_of(Launcher), "model": names_of(Model)},
    }
    trls = {part: list(options) for part, options in trl_options().items()}
    return [f"{part}.{name}".lstrip(".") for group in (parts, trls) for part, found in group.items() for name in found]


def missing_value(text: str) -> str | None:
    """Say that a value is missing."""
    found = re.search(r"Missing mandatory value: [\w.]+", text)
    place = re.search(r"full_key: ([\w.]+)", text)
    return f"{place.group(1)} must be given: add {place.group(1)}=…" if found and place else None


def wrong_type(text: str) -> str | None:
    """Say which type an option takes."""
    found = re.search(r"Value '(.*)' of type '(\w+)' could not be converted to (\w+)", text)
    found = found or re.search(r"Value '(.*)' is not a valid (bool) \(type (\w+)\)", text)
    place = re.search(r"full_key: ([\w.]+)", text)
    if not (found and place):
        return None
    value, given, wanted = found.groups() if found[2] != "bool" else (found[1], found[3], "bool")
    several = f": several values of it have no brackets, {place.group(1)}=1,2" if given == "list" else ""
    return f"{place.group(1)}={value} must be {TYPES.get(wanted, wanted)}{several}"


def short(chain: list[BaseException]) -> str:
    """Return the innermost message in one line: it caused the others."""
    return " ".join(str(chain[-1]).split()) or type(chain[-1]).__name__
