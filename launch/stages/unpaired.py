"""Responses without a partner: which stages cannot train for want of pairs, and KTO's weights of good and bad ones."""

from collections.abc import Iterator
from typing import Any

from launch.config.judging import ELSEWHERE, NONE, TRAINED, judge_of, trained_stages
from launch.config.schema import Config
from recipes.config import UserError
from recipes.methods import METHODS
from recipes.profiles import JUDGE, TEST, VALIDATION

UNSURE = (NONE, *ELSEWHERE)  # the judges whose verdict is not known when settings are chosen
LEAST = 2  # rows to train on; to be evaluated on while it trains, a stage needs one
ADVISED = (1.0, 4 / 3)  # of desirable_weight * good / (undesirable_weight * bad): the paper's, as TRL has it


def check_rows(config: Config, manifest: dict[str, Any]) -> None:
    """Refuse stages that the prepared rows leave without any: those that need pairs, where responses have no partner.

    Raises:
        UserError: there are such stages; the message names them.
    """
    if "unpaired" not in manifest:
        return
    if lacking := list(without_rows(config, manifest)):
        able = [name for name, method in METHODS.items() if method.unpaired]
        judge = ", judge=reward:<model> or judge=none" if judge_of(config) == TRAINED else ""
        raise UserError(
            f"dataset={config.dataset.name}: too few responses have a partner or the right label for "
            f"{', '.join(lacking)}: train {' and '.join(able)} alone (pipeline=sft+kto{judge}), or give more such rows"
        )
    if config.eval_split == VALIDATION and judge_of(config) in UNSURE and not manifest["pairs"][VALIDATION]:
        raise UserError(
            f"dataset={config.dataset.name}: no held-out response has a partner, so preference accuracy cannot choose "
            "a setting: name a judge, judge=reward:<model>"
        )


def without_rows(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield each stage that has too few rows to train on, or none held out, with their numbers."""
    held_out = VALIDATION if VALIDATION in manifest["pairs"] else TEST
    for stage in trained_stages(config):
        shown = stage == "sft" and config.options["sft"]["dataset"] is not None
        split = "train" if stage in config.stages else JUDGE
        train, test = (rows_of(manifest, stage, name) for name in (split, held_out))
        if (train < LEAST and not shown) or test < 1:
            yield f"{stage if stage in config.stages else 'the judge'} ({train} to train on, {test} held out)"


def rows_of(manifest: dict[str, Any], stage: str, split: str) -> int:
    """Return how many rows of a split a stage can read: pairs, and the responses without a partner that it takes."""
    single = manifest["unpaired"].get(split, {})
    return manifest["pairs"][split] + sum(single[side]["rows"] for side in METHODS[stage].unpaired if single)


def unbalanced(config: Config, manifest: dict[str, Any]) -> str | None:
    """Return a line where KTO's weights do not suit how many good and bad responses there are; None if they do."""
    if "unpaired" not in manifest or "kto" not in config.stages:
        return None
    options, single = config.options["kto"], manifest["unpaired"].get("train")
    good, bad = (
        manifest["pairs"]["train"] + (single[side]["rows"] if single else 0) for side in ("chosen", "rejected")
    )
    if not good or not bad:
        return f"KTO: all responses are {'good' if good else 'bad'}; it is made for both kinds"
    desirable, undesirable = options["desirable_weight"], options["undesirable_weight"]
    low, high = (undesirable * bad / good * bound for bound in ADVISED)
    if low <= desirable <= high:
        return None
    return (
        f"KTO: {good:,} good and {bad:,} bad responses, weighted {desirable:g} and {undesirable:g}: its paper advises "
        f"kto.desirable_weight={low:.3g} to {high:.3g}"
    )
