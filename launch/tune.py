"""Tune every pipeline alike, then compare the winners: `make compare ARGS="tune=8 seed=0,1,2"`.

    python -m launch.tune tune=8 WORDS

WORDS are those of a comparison; only the seed may have several values. Every pipeline gets the same number of trials,
each a training of the whole pipeline with the first seed: the first as configured, the others of the first half spread
over the ranges of conf/tune/, the rest by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011). The judge's
mean reward on the validation split chooses. Half-way a range is widened where the best trial lies at its edge. Then the
winners train with every seed, and are reported on the test split.

Typed again, a search that was stopped asks for the same trials, and those that are done do not train again.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir

from launch.config.checks import refuse_useless
from launch.config.errors import CONF, explained
from launch.config.idle import refuse_unused
from launch.config.judging import ELSEWHERE, NONE, judge_of
from launch.config.schema import Config, register, resolve
from launch.config.session import Session
from launch.config.splits import with_folds
from launch.config.sweep import TUNE, overrides, refuse_split, swept, trials_of
from launch.config.trust import refuse_words
from launch.config.tuned import without_named
from launch.executors.elsewhere import run_elsewhere
from launch.executors.job import Outcome, run_job
from launch.executors.queue import Queue, hand_over
from launch.executors.report import print_table, report, score, write_page
from launch.named.words import with_profiles
from launch.tuning.search import Search
from launch.tuning.space import configurable, space_of, with_configured
from recipes.config import UserError, write_text
from recipes.profiles import TEST, VALIDATION
from recipes.system.commands import console, run_command

ROUNDS = 4  # the trials of a round are asked for together, and train at the same time where there is room
FOLDER = "tune"  # of a session, for its trials


@dataclass(frozen=True)
class Command:
    """A command line, taken apart."""

    trials: int
    words: list[str]  # without the number of trials and the seeds; they are of the trials
    seeds: list[str]

    def config(self) -> Config:
        """Return the configuration of the trials.

        Raises:
            UserError: a launch with it would be rejected, or nobody judges.
        """
        config = resolve(compose("config", [*self.words, f"seed={self.seeds[0]}"]))
        config = replace(without_named(config, self.words), eval_split=VALIDATION)  # settings are compared on it
        refuse_useless(config)
        refuse_unused(config, self.words)  # once, and not in every trial
        if (judge := judge_of(config)) in (NONE, *ELSEWHERE):
            raise UserError(
                f"tune={self.trials} chooses by a judge, and judge={judge} judges later or never: use judge=auto, "
                "or name a reward model, judge=reward:<directory or Hub id>"
            )
        if config.budget or config.launcher.dry_run:
            raise UserError(f"tune={self.trials} tunes epochs, and needs every result: remove budget and dry_run")
        return config


def tune(words: list[str]) -> int:
    """Tune, train the winners, print the table; return the exit status.

    Raises:
        UserError: an option is invalid, or all trials of a pipeline failed.
        KeyboardInterrupt: the user stopped it; running jobs have written a checkpoint.
    """
    register()
    refuse_words(words)
    command = read(words)
    with explained(), initialize_config_dir(str(CONF), version_base="1.3"):
        config = command.config()
        session = Path(Session().place(config.runs, config.session, dry_run=False))
        searches, by = searches_of(config, command), ""
        for numbers in rounds(command.trials):
            console.print(f"tune: trials {numbers[0] + 1} to {numbers[-1] + 1} of {command.trials}, each pipeline")
            by = try_out(searches, numbers, command, session / FOLDER) or by
        found = {search.pipeline: search.found() for search in searches}
        train_winners(found, by, config, command, session)
    status = report(session, print_table)
    write_page(session / FOLDER)
    tell(found, by, command.trials, session)
    return status


def rounds(trials: int) -> Iterator[range]:
    """Yield the numbers of the trials that are asked for together; half-way all are told before ranges are widened."""
    size, half = math.ceil(trials / ROUNDS), trials // 2
    for begin, end in ((0, half), (half, trials)):
        yield from (range(first, min(first + size, end)) for first in range(begin, end, size))


def read(words: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        UserError: the number of trials is wrong, or something other than the seed has several values.
    """
    trials = trials_of(words)
    refuse_split(words, f"tune={trials}")
    left = with_profiles(word for word in words if not word.startswith((TUNE, "-")))
    if several := swept(left):
        raise UserError(f"tune={trials} tries values by itself: give {', '.join(several)} one value, or none")
    seeds = [word for word in overrides(left) if word.key_or_group == "seed"][-1:]
    values = [list(word.sweep_string_iterator()) if word.is_sweep_override() else [str(word.value())] for word in seeds]
    kept = [word for word in left if not word.startswith(("seed=", "launcher=here"))]
    launcher = [] if any(word.startswith("launcher=") for word in kept) else ["launcher=local"]
    return Command(trials, [*launcher, "evaluate=true", *kept], *(values or [["0"]]))


def searches_of(config: Config, command: Command) -> list[Search]:
    """Return a search for every pipeline; an option that the command line names is not tuned.

    Raises:
        UserError: nothing is left to tune for a pipeline, or a file of conf/tune is wrong.
    """
    fixed = {word.key_or_group for word in overrides(command.words)}
    found = []
    for pipeline in config.pipelines:
        space, options = space_of(config, pipeline, fixed), config.of(pipeline).options
        configured = {name: options[name.partition(".")[0]][name.partition(".")[2]] for name in space}
        configured = configurable(space, configured)
        found.append(Search(pipeline, with_configured(space, configured), configured, command.trials))
    return found


def try_out(searches: list[Search], numbers: range, command: Command, session: Path) -> str:
    """Train and evaluate the next trials of every pipeline, and tell the searches how good they are; return by what."""
    queue, jobs = Queue(), []
    for place, search in enumerate(searches):
        for number in numbers:
            values = search.ask()
            words = [*command.words, f"seed={command.seeds[0]}", *(f"{name}={value}" for name, value in values.items())]
            directory = session / str(command.trials * place + number)
            alone = partial(only, search.pipeline)
            run_job(compose("config", words), words, directory, leave(alone, directory, queue), list(values))
            jobs.append((search, number, directory))
    if queue:
        run_elsewhere(session, queue)
    by = ""
    for search, number, directory in jobs:
        value, name = score(directory)
        search.tell(number, value)
        by = name or by
    return by


def leave(
    change: Callable[[Config, Outcome], Config], directory: Path, queue: Queue
) -> Callable[[Config, Outcome], None]:
    """Return what changes a job's configuration and adds it to `queue`, in the place of training it."""

    def train(config: Config, outcome: Outcome) -> None:
        hand_over(change(config, outcome), outcome, directory, queue)

    return train


def only(pipeline: str, config: Config, outcome: Outcome) -> Config:
    """Leave a trial's job its one pipeline."""
    config = replace(config, pipelines={pipeline: config.pipelines[pipeline]}, judge=judge_of(config))
    outcome.wanted = [pipeline]
    return config


def train_winners(found: dict[str, Any], by: str, config: Config, command: Command, session: Path) -> None:
    """Train every pipeline with the options that were found for it, with every seed, on the pairs of the trials."""
    fraction, judge = with_folds(config).dataset.validation_fraction, judge_of(config)

    def winner(config: Config, outcome: Outcome) -> Config:
        outcome.tuned = {"trials": command.trials, "split": VALIDATION, "by": by, "pipelines": found}
        dataset = replace(config.dataset, validation_fraction=fraction)
        tuned = {name: config.tuned.get(name, {}) | result["chosen"] for name, result in found.items()}
        return replace(config, tuned=tuned, dataset=dataset, eval_split=TEST, judge=judge)

    queue = Queue()
    for number, seed in enumerate(command.seeds):
        words, directory = [*command.words, f"seed={seed}"], session / str(number)
        run_job(compose("config", words), words, directory, leave(winner, directory, queue), [])
    if queue:
        run_elsewhere(session, queue)


def tell(found: dict[str, Any], by: str, trials: int, session: Path) -> None:
    """Print what was chosen, and write it as the `tuned` of a model's profile."""
    for pipeline, result in found.items():
        chosen = " ".join(f"{option}={value:g}" for option, value in result["chosen"].items())
        edge = f"; at the edge of what was tried: {', '.join(result['at_edge'])}" if result["at_edge"] else ""
        console.print(f"{pipeline}, best of {trials} by {by}: {chosen} ({result['score']:.4g}){edge}", soft_wrap=True)
    tuned = {pipeline: result["chosen"] for pipeline, result in found.items()}
    how = f"{trials} trials of each pipeline, chosen by {by} on the validation split"
    write_text(session / "tuned.yaml", yaml.safe_dump({"tuned_by": how, "tuned": tuned}, sort_keys=False))
    console.print(f"chosen settings: {session}/tuned.yaml; all trials: {session / FOLDER}/report.html", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run_command(tune, sys.argv[1:]))
