"""The words of a command line: names of what is evaluated, and `option=value` as everywhere in this project."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from eval.session import console, jobs_of, models_of, sessions
from recipes.config import UserError
from recipes.process import interrupt_on_signals

Options = TypeVar("Options")


def read_words(words: list[str], kind: type[Options]) -> tuple[list[str], Options]:
    """Return the words that are names, and the options as the dataclass `kind`.

    Raises:
        UserError: an option does not exist, has a wrong type, or must be given and is not.
    """
    given = [word for word in words if "=" in word]
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.from_dotlist(given))
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise UserError(f"{min(missing)} must be given: add {min(missing)}=…")
        options = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise UserError(f"{error.full_key}: there is no such option; there are {', '.join(known)}") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(options, kind)
    return [word for word in words if "=" not in word], options


def models_named(words: list[str]) -> list[Path]:
    """Return what a suite evaluates: stages, model directories and files as they are, and the models of sessions.

    Without words, the newest session's.

    Raises:
        UserError: see `sessions`.
    """
    if not words:
        words = [str(path) for path in sessions([])]
    found: list[Path] = []
    for path in map(Path, words):
        if path.is_file() or (path / "config.yaml").is_file() or (path / "config.json").is_file():
            found.append(path)
        else:
            found += [
                model for session in sessions([str(path)]) for job in jobs_of(session) for model in models_of(job)
            ]
    return list(dict.fromkeys(found))


def run_suite(
    words: list[str], help_text: str | None, kind: type[Options], body: Callable[[list[str], Options], None]
) -> int:
    """Run a suite as a command: its options, its help, a user's mistakes in one line; return the exit status."""
    interrupt_on_signals()
    if {"-h", "--help"} & {*words}:
        console.print(help_text)
        return 0
    try:
        body(*read_words(words, kind))
    except UserError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on")
        return 130
    return 0
