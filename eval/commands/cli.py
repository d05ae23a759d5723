"""The suites' common command line: the models that it names, and their tables.

    python -m eval.<suite> [SESSION, stage directory or file …] [option=value …]

A suite's options are a dataclass: names, types and defaults are read from it, and `--help` prints its docstring.

A misspelt option is reported at once. So a suite imports PyTorch, and whatever else takes seconds, in the function that
needs it (tests/test_startup.py).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from rich.table import Table

from eval.results.session import jobs_of, models_of, sessions
from eval.results.statistics import Estimate, text
from recipes.config import UserError, done, read_config
from recipes.system.commands import GOES_ON, output, run_command
from recipes.system.paths import at_home

Options = TypeVar("Options")


@dataclass
class NoOptions:
    """For a command without options."""


def run(
    words: list[str],
    help_text: str | None,
    kind: type[Options],
    main: Callable[[list[str], Options], None],
    stopped: str = GOES_ON,
) -> int:
    """Run a suite on the words of a command line; return the exit status: 0, 2 wrong input, 130 interrupted.

    `stopped` is printed after Ctrl-C or SIGTERM.
    """
    if {"-h", "--help"} & {*words}:
        output.print(help_text, soft_wrap=True)
        output.print(*options_of(kind), sep="\n", soft_wrap=True)
        return 0
    return run_command(lambda given: main(*read_words(given, kind)), words, stopped, output)


def options_of(kind: type[Any]) -> list[str]:
    """Return a line with the options of a dataclass as they are typed, with their defaults; none without options."""
    values = OmegaConf.to_container(OmegaConf.structured(kind))
    assert isinstance(values, dict)
    said = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    given = "  ".join(f"{name}={'…' if value == MISSING else value}" for name, value in said.items())
    return [f"Options and defaults: {given}"] if given else []


def read_words(words: list[str], kind: type[Options]) -> tuple[list[str], Options]:
    """Return the words that are names, `~` as the home directory, and the words `option=value` as the dataclass `kind`.

    Raises:
        UserError: an option does not exist, has a wrong type, or is required and missing.
    """
    names = [word for word in words if "=" not in word or Path(word).exists()]
    pairs = (word.partition("=") for word in words if word not in names)
    given = {name: None if value == "null" else value for name, _, value in pairs}
    known = ", ".join(field.name for field in fields(kind)) or "none"  # type: ignore[arg-type]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), given)
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise UserError(f"{min(missing)} must be given: add {min(missing)}=…")
        options = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise UserError(f"{error.full_key}: no such option; choose from {known}") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(options, kind)
    return [*map(at_home, names)], options


def models(words: list[str]) -> dict[Path, dict[str, Any]]:
    """Return the named models and files, each with the settings of its session's evaluation, or none.

    Stages, model directories and files are taken as they are. A session (without words, the newest) stands for its base
    model and the last stage of each pipeline.

    Raises:
        UserError: a word is none of these, or nothing was trained.
    """
    found: dict[Path, dict[str, Any]] = {}
    for path in [Path(word) for word in words] or sessions([]):
        if path.is_file() or (path / "config.yaml").is_file() or (path / "config.json").is_file():
            found.setdefault(path, {})
            continue
        for session in sessions([str(path)]):
            for job in jobs_of(session):
                for directory in models_of(job):
                    found[directory] = found.get(directory) or job["evaluation"]
    return found


def stages(words: list[str]) -> dict[Path, dict[str, Any]]:
    """Return trained stages as `models` does; a stage that is named itself comes with its `pairs`, if it has any.

    Raises:
        UserError: a word is neither a session nor a trained stage.
    """
    found = models(words)
    for directory, settings in found.items():
        if not directory.is_dir() or not done(directory):
            raise UserError(f"{directory} is no trained stage: name a stage with a record.json, or a session")
        config = read_config(directory)
        found[directory] = settings or ({"pairs": config["pairs"]} if "pairs" in config else {})
    return found


def show(title: str, columns: dict[str, dict[str, Estimate | float | str | None]]) -> None:
    """Print a table with a column for each model; its rows are the figures that any of them has."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    for row in dict.fromkeys(row for values in columns.values() for row in values):
        table.add_row(row, *(text(values.get(row)).replace(" [", "\n[") for values in columns.values()))
    output.print(table)
