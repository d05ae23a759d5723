"""Stages that other code trained: reuse them and say so, train them again, or reject them, by `stale`.

The digest in a stage's name does not cover our code, which changes daily and rarely affects a weight. So the code is
compared when a directory is used again.
"""

from pathlib import Path

from launch.config.checks import REFUSE
from launch.stages.digest import Planned
from recipes.config import UserError
from recipes.system.fingerprint import changes
from recipes.training.code import code_of, trained_by

NAMED = 5  # files named in a line, at most
UNKNOWN = "its record is from an older version, which did not note the code"


def changed_code(planned: Planned) -> list[str]:
    """Return the files, and earlier stages, that have changed since a stage was trained; none if unknown."""
    then = trained_by(planned.directory)
    config = planned.config
    return changes(then, code_of(config["stage"], config["start"], config.get("reward_model"))) if then else []


def refuse_stale(planned: Planned) -> None:
    """Under stale=refuse, reject what other code trained.

    Raises:
        UserError: other code trained it; the message names the files.
    """
    if planned.stale == REFUSE and (changed := changed_code(planned)):
        raise UserError(
            f"{planned.directory} was trained before these changed: {listed(changed)}; use stale=retrain to train it "
            "again, or stale=keep to reuse it"
        )


def describe_stale(planned: Planned) -> str | None:
    """Return what to say about a stage that was trained before; None if the code is the same."""
    if trained_by(planned.directory) == {}:
        return UNKNOWN
    changed = changed_code(planned)
    return f"changed since: {listed(changed)}; stale=retrain trains it again" if changed else None


def listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def set_aside(directory: Path) -> Path:
    """Move runs/<model>/<dataset>/<stage> to an unused name under runs/_stale; return the new path."""
    runs, *place = directory.parents[2], directory.parents[1].name, directory.parents[0].name
    shelf = Path(runs, "_stale", *place)
    shelf.mkdir(parents=True, exist_ok=True)
    number = 1
    while (shelf / f"{directory.name}.{number}").exists():
        number += 1
    return directory.rename(shelf / f"{directory.name}.{number}")
