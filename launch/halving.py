"""Successive halving: try every setting on a small budget, then the better ones on more.

    python -m launch.halving [factor=2] [rungs=3] WORDS

WORDS are those of a sweep over one pipeline. The first rung trains every setting for 1/factor**(rungs-1) of its full
length, the next one the best 1/factor of them for factor times as long, and so on; the last rung trains the full length
(Jamieson & Talwalkar 2016, arXiv:1502.07943). Each rung trains from the start with a learning-rate schedule of its own
length: a cosine schedule cut short would not have decayed. So the costs of all rungs add up, and only the last rung has
the models of an ordinary sweep. The jobs of a rung run as under `launcher=local`, and all end before the next rung
begins.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from launch.config.errors import CONF, explained
from launch.config.help import helped
from launch.config.schema import Config, register, resolve
from launch.config.session import Session
from launch.config.sweep import refuse_split, swept
from launch.config.trust import refuse_words
from launch.config.tuned import without_named
from launch.executors.job import run_job
from launch.executors.local import run_queue
from launch.executors.queue import Queue, hand_over
from launch.executors.report import print_table, report, score
from launch.named.words import with_profiles
from recipes.config import UserError
from recipes.system.commands import console, run_command
from recipes.system.errors import CRASH

Setting = TypeVar("Setting")
Words = tuple[str, ...]  # a setting: its options


def halve(
    settings: list[Setting], factor: int, rungs: int, train: Callable[[list[Setting], float], list[float]]
) -> tuple[Setting, float] | None:
    """Return the best setting of the last rung and its score; None if every setting of a rung failed.

    `train` takes settings and the share of the full length to train for, and returns their scores, NaN for a failed
    one. With fewer settings than factor**(rungs-1) there are fewer rungs, and the first is longer.
    """
    while factor ** (rungs - 1) > len(settings):
        rungs -= 1
    best = None
    for rung in reversed(range(rungs)):
        scored = zip(settings, train(settings, 1 / factor**rung), strict=True)
        ranked = sorted((pair for pair in scored if not math.isnan(pair[1])), key=lambda pair: -pair[1])
        if not ranked:
            return None
        best = ranked[0]
        settings = [setting for setting, _ in ranked[: math.ceil(len(settings) / factor)]]
    return best


@dataclass
class Search:
    """The jobs of a search, all in one session."""

    fixed: list[str]  # the options that all jobs share
    swept: list[str]  # the options in which they differ
    session: Path
    jobs: int = 0
    by: str = ""  # what chooses

    def train(self, settings: list[Words], share: float) -> list[float]:
        """Train and evaluate settings for a share of the full length; return their scores, NaN for a failed one.

        Raises:
            UserError: a setting cannot be composed, or jobs cannot run here.
            KeyboardInterrupt: the user stopped it; running jobs have written a checkpoint.
        """
        queue = Queue()
        directories = [self.prepare(setting, share, queue) for setting in settings]
        if queue:
            run_queue(self.session, queue)
        scores, names = zip(*map(score, directories), strict=True)
        self.by = next(filter(None, names), self.by)
        return list(scores)

    def prepare(self, setting: Words, share: float, queue: Queue) -> Path:
        """Add a setting's job to `queue`, and return its directory; its job.json says so if the setting is rejected."""
        words = [*self.fixed, *setting]
        lengths = shortened(without_named(resolve(compose("config", words)), words), setting, share)
        words += lengths
        directory = self.session / str(self.jobs)
        self.jobs += 1
        leave = partial(hand_over, directory=directory, queue=queue)
        told_apart = [*self.swept, *(word.partition("=")[0] for word in lengths)]  # the table has a row for every rung
        run_job(compose("config", words), words, directory, leave, told_apart)
        return directory


def find_session(words: list[str]) -> Path:
    """Return the directory of a search; `words` are those of its first setting, which must compose.

    Raises:
        UserError: it has several pipelines, or its jobs run elsewhere.
    """
    config = resolve(compose("config", words))
    if config.launcher.name != "local" or len(config.pipelines) != 1:
        raise UserError("halving takes one pipeline, and jobs on this machine: name one, and use launcher=local")
    return Path(Session().place(config.runs, config.session, dry_run=False))


def settings_of(words: list[str]) -> tuple[list[str], list[Words]]:
    """Return the words that all jobs share, and the settings, all combinations of the swept values.

    Raises:
        UserError: nothing is swept, or only seeds.
    """
    parsed = OverridesParser.create().parse_overrides(words)
    several = [word for word in parsed if word.is_sweep_override()]
    if not several or any(word.key_or_group == "seed" for word in several):
        raise UserError("halving needs an option with several values, such as orpo.beta=0.1,0.2; give only one seed")
    choices = [[f"{word.get_key_element()}={value}" for value in word.sweep_string_iterator()] for word in several]
    return [str(word.input_line) for word in parsed if not word.is_sweep_override()], list(product(*choices))


def shortened(config: Config, setting: Words, share: float) -> list[str]:
    """Return the options that shorten the stages to which a setting's options belong.

    An earlier stage, such as the SFT in a sweep of DPO, is the same in all rungs. Without such options all stages
    shorten.
    """
    ((name, stages),) = config.pipelines.items()
    options = config.of(name).options
    own = [stage for stage in stages if any(word.startswith(f"{stage}.") for word in setting)] or stages
    words = []
    for stage in own if share < 1 else ():
        steps, epochs = options[stage]["max_steps"], options[stage]["num_train_epochs"]
        longer = steps > 0
        option, value = ("max_steps", max(1, round(steps * share))) if longer else ("num_train_epochs", epochs * share)
        words.append(f"{stage}.{option}={value}")
    return words


def own_words(words: list[str]) -> tuple[int, int, list[str]]:
    """Return the factor, the number of rungs, and the words of the configuration.

    Raises:
        UserError: the factor is below 2, there is no rung, or either is not a whole number.
    """
    given = dict(word.split("=", 1) for word in words if word.startswith(("factor=", "rungs=")))
    factor, rungs = given.get("factor", "2"), given.get("rungs", "3")
    if not (factor.isdecimal() and int(factor) >= 2 and rungs.isdecimal() and int(rungs) >= 1):
        raise UserError(f"factor={factor} rungs={rungs}: give whole numbers, factor at least 2 and rungs at least 1")
    refuse_split(words, "halving")
    left = with_profiles(word for word in words if word.partition("=")[0] not in given)
    launcher = [] if any(word.startswith("launcher=") for word in words) else ["launcher=local"]
    # also where what is swept is no option of training, and the longest rung sweeps nothing else
    split = [] if any(word.startswith("eval_split=") for word in left) else ["eval_split=validation"]
    return int(factor), int(rungs), [*launcher, "evaluate=true", *split, *left]


def main(words: list[str]) -> int:
    """Search, print the table of all rungs and the best setting; return the exit status: 0, or 1 if all failed.

    Raises:
        UserError: an option is invalid, or jobs cannot run here.
        KeyboardInterrupt: the user stopped it, which was reported.
    """
    if helped(words, __doc__):
        return 0
    register()
    refuse_words(words)
    factor, rungs, words = own_words(words)
    with explained(), initialize_config_dir(str(CONF), version_base="1.3"):
        fixed, settings = settings_of(words)
        search = Search(fixed, swept(words), find_session([*fixed, *settings[0]]))
        best = halve(settings, factor, rungs, search.train)
    status = report(search.session, print_table)
    if best is None:
        console.print(f"all {len(settings)} settings failed", style="red")
        return max(status, CRASH)
    setting, worth = best
    chosen = f"best of {len(settings)} settings by {search.by}: {' '.join(setting)} ({worth:.4g})"
    console.print(chosen, soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
