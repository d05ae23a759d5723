"""What the suites share: their command line, the models that it names, and how they print.

python -m eval.<suite> [SESSION or stage directory …] [option=value …]
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from eval.endpoint import Endpoint
from eval.session import console, jobs_of, models_of, sessions
from eval.statistics import Estimate
from recipes.config import UserError, done, read_config
from recipes.process import interrupt_on_signals

ENDPOINT: dict[str, Any] = {"endpoint": "", "served": "", "chat": False}  # options of every suite that asks a model
SWITCH = {"true": True, "false": False}


def run(suite: Callable[[list[str]], None], words: list[str]) -> int:
    """Run a suite on the words of a command line; return the exit status: 0, 2 wrong input, 130 interrupted."""
    interrupt_on_signals()
    try:
        suite(words)
    except UserError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on")
        return 130
    return 0


def read_words(words: list[str], options: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Split words into directories and options, `name=value`; a value is of its default's type.

    Raises:
        UserError: there is no such option, or its value is of another type.
    """
    paths, found = [], dict(options)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or Path(word).exists():
            paths.append(word)
            continue
        if name not in options:
            raise UserError(f"{word}: there is no option {name!r} here, only {', '.join(options)}")
        kind = type(options[name])
        try:
            found[name] = SWITCH[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            wanted = "true or false" if kind is bool else f"of type {kind.__name__}"
            raise UserError(f"{word}: {name} is {wanted}") from None
    return paths, found


def endpoint_of(options: dict[str, Any]) -> Endpoint | None:
    """Return the endpoint that the options name, if they do.

    Raises:
        UserError: see `Endpoint`.
    """
    if not options["endpoint"]:
        return None
    return Endpoint(options["endpoint"], options["served"], options["chat"])


def models(words: list[str]) -> dict[Path, dict[str, Any]]:
    """Return the stage directories that are named, or a session's untuned and last ones, with what is known of each.

    That is a job's settings of the evaluation (`pairs`, `max_new_tokens`, `seed`, …), or a stage's `pairs` alone.

    Raises:
        UserError: a directory is neither a session nor a trained stage, or nothing was trained.
    """
    stages = [Path(word) for word in words if (Path(word) / "config.yaml").exists()]
    found = {path: stage_settings(path) for path in stages}
    others = [word for word in words if Path(word) not in stages]
    for session in sessions(others) if others or not words else []:
        for job in jobs_of(session):
            for directory in models_of(job):
                found.setdefault(directory, job["evaluation"])
    return found


def stage_settings(directory: Path) -> dict[str, Any]:
    """Return what a stage's own configuration says about an evaluation: its pairs, where it has any.

    Raises:
        UserError: it is not trained yet, or no stage.
    """
    config = read_config(directory)
    if not done(directory) or "stage" not in config:
        raise UserError(f"{directory} is no trained stage: name one with a record.json, or a session")
    return {"pairs": config["pairs"]} if "pairs" in config else {}


def progress() -> Progress:
    """Return the bar that suites show while they work."""
    description = TextColumn("{task.description}", markup=False)
    return Progress(description, BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), console=console)


def text(value: Estimate | float | str | None, digits: int = 3) -> str:
    """Return one cell: a number, an estimate with its interval, or a dash."""
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, Estimate):
        return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return f"{value:.{digits}f}"


def show(title: str, columns: dict[str, dict[str, Estimate | float | str | None]]) -> None:
    """Print a table, a column for each model; the rows are the figures that any of them has."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    for row in dict.fromkeys(row for values in columns.values() for row in values):
        table.add_row(row, *(text(values.get(row)).replace(" [", "\n[") for values in columns.values()))
    console.print(table)
