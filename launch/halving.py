"""Successive halving: try every setting with a small budget, and the better ones with more.

    python -m launch.halving [factor=2] [rungs=3] WORDS

WORDS are those of a sweep over one pipeline. The first rung trains every setting for 1/factor**(rungs-1) of its full
length, the next the best 1/factor of them for factor times as long, and so on; the last one trains to the full length.
Each rung is a training of its own with a schedule of its own length, not the beginning of the next rung's: a cosine
schedule cut short would not have come down. So rungs cost their sum, and only the last has the sweep's own models.

scikit-learn searches: its halving is synchronous (Jamieson & Talwalkar 2016, arXiv 1502.07943) and takes any parameter
for the budget. Optuna's pruner decides as results arrive, so that the first setting always goes on. Jobs run as
`launcher=local` runs them.
"""

import math
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from joblib import parallel_config
from omegaconf.errors import OmegaConfBaseException
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (makes the next line work)
from sklearn.model_selection import HalvingGridSearchCV

from launch.__main__ import report
from launch.config.errors import CRASH, INTERRUPTED, USER, explain
from launch.config.schema import mixture, register, resolve, session
from launch.config.trust import refuse_words
from launch.executors.job import run_job
from launch.executors.local import Devices, device_names, jobs_together, needed, prepare, run
from launch.executors.queue import hand_over, queue
from launch.executors.table import print_table
from launch.stages.command import module
from launch.stages.run import console
from recipes.config import UserError, read_json
from recipes.system.paths import ROOT
from recipes.system.processes import interrupt_on_signals


class Setting(BaseEstimator):
    """One of the settings with one of the budgets, counted in parts of the full one."""

    def __init__(self, number: int = 0, budget: int = 1) -> None:
        self.number, self.budget = number, budget

    def fit(self, X: Any, y: Any = None) -> "Setting":
        """Do nothing: a setting is trained when its score is asked for."""
        return self


class Search:
    """The jobs of a search: all of one session, each trained and measured when scikit-learn asks for its score."""

    def __init__(self, words: list[str], whole: int) -> None:
        """Compose the whole budget's first setting, on which all that is no setting's own is checked.

        Raises:
            UserError: nothing is swept, or something that is no setting; or jobs cannot run here.
        """
        self.fixed, self.settings = settings_of(words)
        self.whole, self.lock, self.jobs = whole, threading.Lock(), 0
        self.config = resolve(compose("config", [*self.fixed, *self.settings[0]]))
        if self.config["launcher"]["name"] != "local" or len(self.config["pipelines"]) != 1:
            raise UserError("halving compares settings of one pipeline, by jobs on this machine: launcher=local")
        self.session = Path(session(self.config["runs"], self.config["session"], False))
        self.names = device_names([self.config])
        needed(self.config, self.names)
        self.together = jobs_together([self.config] * len(self.settings), self.names)
        self.devices = Devices(self.names)

    def score(self, setting: Setting, *_: Any) -> float:
        """Train and measure a setting; return what it is worth, NaN where it failed."""
        own = self.settings[setting.number]
        words = [*self.fixed, *own]
        with self.lock:  # Hydra composes one at a time
            words += budget_words(resolve(compose("config", words)), own, setting.budget / self.whole)
            directory, self.jobs = self.session / str(self.jobs), self.jobs + 1
            run_job(compose("config", words), words, directory, partial(hand_over, directory=directory))
        if directory not in queue:
            return math.nan
        run(directory, needed(queue[directory], self.names), self.devices)
        if read_json(directory / "job.json")["status"]:
            return math.nan
        answer = subprocess.run(module("eval.score", directory), capture_output=True, text=True, check=False)
        return math.nan if answer.returncode else float(answer.stdout)


def settings_of(words: list[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the words that all jobs share, and the settings: every combination of the swept values.

    Raises:
        UserError: nothing is swept, or seeds are.
    """
    parsed = OverridesParser.create().parse_overrides(words)
    swept = [word for word in parsed if word.is_sweep_override()]
    if not swept or any(word.key_or_group == "seed" for word in swept):
        raise UserError("halving needs options with several values, such as orpo.beta=0.1,0.2; seeds are no setting")
    choices = [[f"{word.get_key_element()}={value}" for value in word.sweep_string_iterator()] for word in swept]
    return [str(word.input_line) for word in parsed if not word.is_sweep_override()], list(product(*choices))


def budget_words(config: dict[str, Any], setting: tuple[str, ...], share: float) -> list[str]:
    """Return the options that train for a share of the length: of the stages that a setting's options belong to.

    A stage before them, such as the SFT under a sweep of DPO, is the same in all rungs; without such options it is all.
    """
    (stages,) = config["pipelines"].values()
    own = [stage for stage in stages if any(word.startswith(f"{stage}.") for word in setting)] or stages
    words = []
    for stage in own if share < 1 else ():
        steps, epochs = config[stage]["max_steps"], config[stage]["num_train_epochs"]
        longer = steps > 0
        name, value = ("max_steps", max(1, round(steps * share))) if longer else ("num_train_epochs", epochs * share)
        words.append(f"{stage}.{name}={value}")
    return words


def halve(settings: int, factor: int, whole: int, score: Callable[..., float], together: int = 1) -> Any:
    """Search `settings` settings by number; return scikit-learn's finished search."""
    search = HalvingGridSearchCV(
        Setting(),
        {"number": list(range(settings))},
        **{"factor": factor, "resource": "budget", "max_resources": whole, "min_resources": "exhaust"},
        **{"scoring": score, "cv": [([0], [1])], "refit": False, "return_train_score": False, "n_jobs": together},
    )
    with parallel_config(backend="threading"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the test scores")  # of a job that failed, and said why
        return search.fit([[0.0], [0.0]])  # it wants rows; ours are on the disk


def own_words(words: list[str]) -> tuple[int, int, list[str]]:
    """Return the factor, the number of rungs, and the words of the configuration.

    Raises:
        UserError: the factor is below 2, there is no rung, or either is no number.
    """
    given = dict(word.split("=", 1) for word in words if word.startswith(("factor=", "rungs=")))
    factor, rungs = given.get("factor", "2"), given.get("rungs", "3")
    if not (factor.isdecimal() and int(factor) >= 2 and rungs.isdecimal() and int(rungs) >= 1):
        raise UserError(f"factor={factor} rungs={rungs}: give whole numbers, a factor of 2 or more and a rung or more")
    left = [part for word in words if word.partition("=")[0] not in given for part in mixture(word)]
    launcher = [] if any(word.startswith("launcher=") for word in words) else ["launcher=local"]
    return int(factor), int(rungs), [*launcher, "evaluate=true", *left]


def main(words: list[str]) -> int:
    """Search, print the table of all rungs and the best setting; return the exit status."""
    interrupt_on_signals()
    register()
    try:
        refuse_words(words)
        factor, rungs, words = own_words(words)
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            search = Search(words, factor ** (rungs - 1))
            prepare(search.together, search.config["hardware"]["processes"])
            try:
                found = halve(len(search.settings), factor, search.whole, search.score, search.together)
            except KeyboardInterrupt:
                search.devices.stop()
                raise
    except (HydraException, OmegaConfBaseException, UserError) as error:
        console.print(f"error: {explain(error)}", style="red", soft_wrap=True)
        return USER
    except KeyboardInterrupt:
        console.print("stopped: the same command trains what is missing")
        return INTERRUPTED
    status = report(search.session, print_table)
    if math.isnan(found.best_score_):
        console.print(f"none of {len(search.settings)} settings could be trained and measured", style="red")
        return max(status, CRASH)
    best = " ".join(search.settings[found.best_params_["number"]])
    console.print(f"best of {len(search.settings)} settings: {best} ({found.best_score_:.4g})", soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
