"""What a command line sweeps: options with several values; each job has one of them."""

from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from launch.config.errors import CONF
from recipes.config import UserError

TUNE = "tune="  # the word with the number of trials
LEAST = 2  # trials


def overrides(words: Iterable[str]) -> list[Override]:
    """Return the options among the words of a command line, flags left out.

    Raises:
        HydraException: Hydra cannot read a word as an option.
    """
    return OverridesParser.create().parse_overrides(
        [word for word in words if "=" in word and not word.startswith("-")]
    )


def swept(words: Iterable[str]) -> list[str]:
    """Return the options with several values, each once; seeds are repetitions, not settings."""
    names = [word.key_or_group for word in overrides(words) if word.is_sweep_override()]
    return [name for name in dict.fromkeys(names) if name != "seed"]


def trials_of(words: list[str]) -> int:
    """Return the number of trials that a command line asks for.

    Raises:
        UserError: it is none, or too small.
    """
    given = [word.removeprefix(TUNE) for word in words if word.startswith(TUNE)]
    if len(given) != 1 or not given[0].isdecimal() or int(given[0]) < LEAST:
        raise UserError(f"{TUNE}{','.join(given)}: give one number of trials for each pipeline, {LEAST} or more")
    return int(given[0])


def as_one_job(words: list[str]) -> list[str]:
    """Return the words without `--multirun` where they are one job: Hydra would compose it four times, not twice."""
    profiles = ("sweep=", "experiment=", "hydra")  # which may sweep, too
    profile = any(word.lstrip("+~").startswith(profiles) for word in words)
    if profile or any(word.is_sweep_override() for word in overrides(words)):
        return words
    return [word for word in words if word not in ("-m", "--multirun")]


def refuse_repeated(words: Iterable[str]) -> None:
    """Reject an option that has a value twice: it would count as two settings, or as two seeds.

    Raises:
        UserError: there is one.
    """
    for word in overrides(words):
        values = list(word.sweep_string_iterator()) if word.is_choice_sweep() else []
        if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
            raise UserError(f"{word.input_line}: {', '.join(twice)} is given twice; give each value once")


def refuse_split(words: Iterable[str], search: str) -> None:
    """Reject words that would leave a search without figures, or with figures of the test split.

    Raises:
        UserError: there is one.
    """
    for word in words:
        name, _, value = word.partition("=")
        if name == "eval_split" and value != "validation":
            raise UserError(f"{search} chooses on the validation split, the test split is for reports: remove {word}")
        if name == "evaluate" and value.lower() != "true":
            raise UserError(f"{search} chooses by what is evaluated: remove {word}")


def setting(config: DictConfig, words: Iterable[str], names: list[str]) -> dict[str, Any]:
    """Return a job's values of the swept options, from its composed configuration and its words.

    For a group of `conf/` that is the profile's name, for an option its composed value.
    """
    chosen = {word.key_or_group: word.value() for word in overrides(words)}
    return {name: chosen[name] if (CONF / name).is_dir() else plain(OmegaConf.select(config, name)) for name in names}


def plain(value: Any) -> Any:
    """Return a configuration's value in a form that JSON can hold."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
