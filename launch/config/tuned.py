"""Options that belong to one pipeline: what `tune=` found, or a profile's `tuned`."""

from collections.abc import Iterable
from dataclasses import replace

from launch.config.schema import Config
from launch.config.sweep import overrides


def without_named(config: Config, words: Iterable[str]) -> Config:
    """Return a configuration whose pipelines have no own value of an option that the command line names."""
    named = {word.key_or_group for word in overrides(words)}
    tuned = {
        pipeline: {option: value for option, value in own.items() if option not in named}
        for pipeline, own in config.tuned.items()
    }
    return replace(config, tuned=tuned)
