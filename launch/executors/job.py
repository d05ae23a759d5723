"""One job: the pipelines of one configuration, from the base model to trained stages."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from launch.config.checks import refuse_useless
from launch.config.errors import explain
from launch.config.idle import refuse_unused
from launch.config.judging import with_one_judge
from launch.config.parallelism import check_installed
from launch.config.schema import Config, resolve
from launch.config.splits import with_folds, with_split
from launch.config.sweep import setting
from launch.config.tuned import found_by, without_named
from launch.executors.prepare import prepare
from launch.forecast.ahead import expected, only_warming_up, too_few_prompts
from launch.forecast.budget import Budget, describe, match, refuse_budget
from launch.forecast.split import unknown, with_splits
from launch.stages.base_model import base_row
from launch.stages.digest import Planned, digest, plan
from launch.stages.evaluation import evaluation_of
from launch.stages.inputs import check_room, with_chat_template
from launch.stages.judge import plan_judge
from launch.stages.micro_batch import run_as_it_fits
from launch.stages.rehearsal import begin
from launch.stages.run import StageFailed, say
from recipes.config import UserError, done, write_json, write_text
from recipes.system.commands import GOES_ON, console
from recipes.system.errors import CRASH, INTERRUPTED, USER
from recipes.system.secrets import redact

HERE = "here"  # the launcher that runs jobs in this process


@dataclass
class Outcome:
    """The outcome of a job, kept as `job.json` in its directory under runs/_sessions; tables read it."""

    overrides: list[str]  # words of the command line, without the seed
    setting: dict[str, Any] = field(default_factory=dict)  # this job's values of the swept options
    seed: int = 0
    model: str = ""
    dataset: str = ""
    evaluate: bool = False
    evaluation: dict[str, Any] = field(default_factory=dict)
    base: str = ""
    compare_with: str | None = None  # the pipeline that each other one is tested against
    budget: Budget | None = None  # the budget that the pipelines share
    tuned: dict[str, Any] | None = None  # how their options were found, see launch.tune
    tuned_by: str | None = None  # the same in words, of a profile or an experiment whose settings were found before
    wanted: list[str] = field(default_factory=list)  # names of pipelines
    pipelines: dict[str, list[str]] = field(default_factory=dict)  # finished ones: their stage directories in order
    failed: list[str] = field(default_factory=list)  # stage directories
    avoided: list[str] = field(default_factory=list)  # those that failed in other jobs of the session
    errors: list[str] = field(default_factory=list)
    status: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)  # for a cluster's job: when, where, on which devices

    def describe(self, config: Config) -> None:
        """Record the job's configuration.

        Raises:
            UserError: `eval_text` names no text that can be used.
        """
        self.evaluate, self.wanted = config.evaluate, list(config.pipelines)
        self.compare_with, self.tuned_by = config.compare_with, found_by(config)
        self.model, self.dataset = config.model.name, config.dataset.name
        self.evaluation = evaluation_of(config)

    def fail(self, status: int, message: str) -> None:
        """Record an error, and print it."""
        message = redact(message)
        self.status = max(self.status, status)
        self.errors.append(message)
        console.print(f"error: {message}", style="red", soft_wrap=True)


def run_job(
    composed: DictConfig,
    overrides: list[str],
    directory: Path,
    train: Callable[[Config, Outcome], None],
    names: list[str],
) -> None:
    """Have `train` train every pipeline of `composed`, and leave the outcome as `directory`/job.json.

    `names` are the options that the command line sweeps. A failed pipeline does not stop the others, nor a failed job
    the other jobs of a sweep.
    """
    outcome = Outcome([word for word in overrides if not word.startswith("seed=")], seed=composed.seed)
    with kept(outcome, directory):
        split = with_split(without_named(resolve(composed), overrides), names)
        config = with_one_judge(split, names)
        if config is not split:
            say("settings are ranked by preference accuracy: each would train another judge; name one: judge=reward:…")
        outcome.describe(config)
        outcome.setting = setting(composed, overrides, names)
        refuse_useless(config)
        refuse_unused(config, overrides)
        refuse_budget(config, overrides)
        if line := unknown(config):
            say(line)
        train(with_splits(config), outcome)


@contextmanager
def kept(outcome: Outcome, directory: Path) -> Iterator[None]:
    """Report whatever stops a job, and write its outcome to job.json; only an interruption is raised again."""
    try:
        yield
    except KeyboardInterrupt as error:
        outcome.fail(INTERRUPTED, str(error) or GOES_ON)
        raise
    except UserError as error:
        outcome.fail(USER, str(error))
    except OmegaConfBaseException as error:
        outcome.fail(USER, explain(error))
    except StageFailed as error:
        outcome.fail(CRASH, str(error))
    except OSError as error:
        outcome.fail(USER, f"{error.strerror or error}: {error.filename or directory}")
    except Exception as error:  # a bug of ours must not stop the other jobs of a sweep
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / "traceback.txt", traceback.format_exc())
        outcome.fail(CRASH, f"{type(error).__name__}: {error}; see {directory / 'traceback.txt'}")
    finally:
        keep(outcome, directory)


def train_pipelines(config: Config, outcome: Outcome) -> None:
    """Prepare and check everything, then train stage by stage.

    Raises:
        UserError: the user can fix it; raised before anything is trained.
    """
    check_installed(config.hardware.strategy)
    config = with_folds(with_chat_template(config))
    ready = prepare(config)
    fingerprint, dataset = ready.manifest["fingerprint"], config.dataset
    outcome.evaluation |= {"pairs": str(ready.pairs), "max_new_tokens": dataset.max_new_tokens}
    outcome.base = str(base_row(config, ready.start, ready.pairs, fingerprint))
    tokens = ready.tokens
    configs, outcome.budget = match(config, tokens)
    if outcome.budget:
        say(describe(config, configs, outcome.budget))
    pipelines = {
        name: plan(configs[name], stages, ready.start, ready.pairs, fingerprint, ready.reward, ready.demonstrations)
        for name, stages in config.pipelines.items()
    }
    judge, decides = plan_judge(config, ready.start, ready.pairs, fingerprint)
    outcome.evaluation |= decides
    everything = [stage for stages in (judge, *pipelines.values()) for stage in stages]
    check_room(config, ready.start, len({stage.directory for stage in everything if not done(stage.directory)}))
    begin(config, everything)
    for line in (*only_warming_up(everything, ready.counts), *too_few_prompts(config, ready.counts)):
        say(line)
    if line := expected(configs, pipelines, tokens, judge):
        say(line)
    group = group_of(config, pipelines)
    if not train_stages(judge, group, outcome):
        outcome.evaluation["judge"] = None  # without it the pipelines are still worth a table
    for name, stages in pipelines.items():
        train_pipeline(name, stages, group, outcome)


def group_of(config: Config, pipelines: dict[str, list[Planned]]) -> str:
    """Return the name by which a tracker groups the stages of a comparison."""
    stages = digest(sorted({stage.config["digest"] for stages in pipelines.values() for stage in stages}))
    return f"{config.model.name}-{config.dataset.name}-{stages}"


def train_pipeline(name: str, stages: list[Planned], group: str, outcome: Outcome) -> None:
    """Train one pipeline's stages in order, and note its directories."""
    if train_stages(stages, group, outcome):
        outcome.pipelines[name] = [str(stage.directory) for stage in stages]


def train_stages(stages: list[Planned], group: str, outcome: Outcome) -> bool:
    """Train stages in order; return whether all are done, and note what stopped them.

    A stage that another pipeline has in common, finished or failed, is not tried again; nor is one that failed in
    another job of the session.
    """
    finished = {directory for directories in outcome.pipelines.values() for directory in directories}
    for stage in stages:
        if str(stage.directory) in finished:
            continue
        if str(stage.directory) in (*outcome.failed, *outcome.avoided):
            if not outcome.errors:
                outcome.fail(CRASH, f"{stage.directory} failed before in this session: see its error.txt or log.txt")
            return False
        try:
            run_as_it_fits(stage, group)
        except (UserError, StageFailed) as error:
            outcome.failed.append(str(stage.directory))
            outcome.fail(USER if isinstance(error, UserError) else CRASH, str(error))
            return False
    return True


def keep(outcome: Outcome, directory: Path) -> None:
    """Write job.json; a full disk must not hide the error that is being reported."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "job.json", asdict(outcome))
    except OSError as error:
        console.print(f"error: {directory}: {error.strerror}", style="red")
