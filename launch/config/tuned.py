"""Options that belong to one pipeline: what `tune=` found, or a profile's `tuned`."""

from collections.abc import Iterable
from dataclasses import replace

from launch.config.schema import Config
from launch.config.sweep import overrides
from launch.config.trl_options import STAGES


def without_named(config: Config, words: Iterable[str]) -> Config:
    """Return a configuration whose pipelines have no own value of an option that the command line names.

    `tuned_by` is not true of these options, and says so.
    """
    named = {word.key_or_group for word in overrides(words)}
    tuned = {
        pipeline: {option: value for option, value in own.items() if option not in named}
        for pipeline, own in config.tuned.items()
    }
    given = sorted(name for name in named if name.partition(".")[0] in STAGES)
    but = f"; but the command line sets {', '.join(given)}" if given else ""
    return replace(config, tuned=tuned, tuned_by=found_by(config) and f"{found_by(config)}{but}")


def found_by(config: Config) -> str | None:
    """Return how the settings of a profile or an experiment were found, in words; None: nobody has tuned them."""
    if config.tuned_by or not config.tuned:
        return config.tuned_by
    return "pipelines have settings of their own (`tuned`), whose profile does not say how they were found (`tuned_by`)"
