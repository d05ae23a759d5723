"""What other code has trained before: said, trained again, or refused, as `stale` has it.

A stage's directory is named after what trains it, not after our code, which changes daily and mostly no weight. So the
code is compared when a directory is about to be used again.
"""

from pathlib import Path

from launch.config.checks import REFUSE
from launch.stages.digest import Planned
from recipes.config import UserError
from recipes.system.fingerprint import changes
from recipes.training.code import code_of, trained_by

NAMED = 5  # most files that a line names
UNKNOWN = "its record, made by an older version, does not say by which code"


def changed_code(planned: Planned) -> list[str]:
    """Return the files, and earlier stages, that have changed since a stage was trained; none where it is not known."""
    then = trained_by(planned.directory)
    config = planned.config
    return changes(then, code_of(config["stage"], config["start"], config.get("reward_model"))) if then else []


def refuse_stale(planned: Planned) -> None:
    """Refuse what other code has trained, under stale=refuse.

    Raises:
        UserError: naming the files.
    """
    if planned.stale == REFUSE and (changed := changed_code(planned)):
        raise UserError(
            f"{planned.directory} was trained before these changed: {listed(changed)}. Use stale=retrain to train it "
            "again, or stale=keep to take it as it is"
        )


def describe_stale(planned: Planned) -> str | None:
    """Return what is to be told of a stage that was trained before; None where its code is today's."""
    if trained_by(planned.directory) == {}:
        return UNKNOWN
    changed = changed_code(planned)
    return f"changed since: {listed(changed)}; stale=retrain trains it again" if changed else None


def listed(names: list[str]) -> str:
    """Return a few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def set_aside(directory: Path) -> Path:
    """Move runs/<model>/<dataset>/<stage> to a name of its own under runs/_stale; return where it lies now."""
    runs, *place = directory.parents[2], directory.parents[1].name, directory.parents[0].name
    shelf = Path(runs, "_stale", *place)
    shelf.mkdir(parents=True, exist_ok=True)
    number = 1
    while (shelf / f"{directory.name}.{number}").exists():
        number += 1
    return directory.rename(shelf / f"{directory.name}.{number}")
