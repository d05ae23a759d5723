"""Which held-out split a job is evaluated on, and which prompts are held out for it.

Settings are chosen on the validation split and reported on the test split, so that no figure that is reported has
chosen anything.
"""

from collections.abc import Iterable
from dataclasses import replace

from launch.config.first import TRAINING, begins
from launch.config.idle import steered
from launch.config.judging import with_judge_fold
from launch.config.schema import Config
from recipes.config import UserError
from recipes.profiles import TEST, VALIDATION

FRACTION = 0.1  # of the training prompts, for the validation split


def with_split(config: Config, swept: Iterable[str]) -> Config:
    """Return a configuration that names its split: validation where the command line sweeps options of training.

    Raises:
        UserError: there is no such split.
    """
    if config.eval_split not in (None, TEST, VALIDATION):
        raise UserError(
            f"eval_split={config.eval_split}: use {TEST} or {VALIDATION}, or null to choose by what is swept"
        )
    chooses = any(begins(name, TRAINING) for name in swept)
    return replace(config, eval_split=config.eval_split or (VALIDATION if chooses else TEST))


def with_folds(config: Config) -> Config:
    """Return a configuration that holds out prompts for all that is chosen or judged by them, and for nothing else.

    Raises:
        UserError: a fraction is none, or there is no such judge.
    """
    fraction = config.dataset.validation_fraction
    by_loss = any(steered(config.options[stage]) for stage in config.stages)
    if fraction is None and (config.eval_split == VALIDATION or by_loss):
        fraction = FRACTION
    if fraction is not None and not 0 < fraction < 1:
        raise UserError(f"dataset.validation_fraction={fraction}: give a share between 0 and 1 of the training prompts")
    return with_judge_fold(replace(config, dataset=replace(config.dataset, validation_fraction=fraction)))
