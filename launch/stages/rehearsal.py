"""Have every stage build, before anything trains, what it builds from its options when its turn comes."""

from pathlib import Path

from launch.config.judging import MODEL, judge_of
from launch.config.schema import Config
from launch.stages.base_model import known_identity
from launch.stages.digest import Planned, Start, plan
from launch.stages.inputs import find_reward_model
from launch.stages.judge import plan_judge
from launch.stages.pairs import pairs_directory
from launch.stages.processes import call
from launch.stages.run import prepare_directory
from launch.stages.stale import refuse_stale
from recipes.config import Stage, done
from recipes.system.versions import versions


def prepared(config: Config) -> bool:
    """Whether the base model and the tokenized pairs are here already.

    Raises:
        UserError: a named model directory is none.
    """
    identity = known_identity(config.model)
    return identity is not None and pairs_directory(config, identity).exists()


def outline(config: Config, reward: Start | None) -> list[Planned]:
    """Return the stages that would be trained, each once, as far as their options go: their inputs may be missing."""
    start = Start("", None, "")
    stages, _ = plan_judge(config, start, Path(), "")
    for name, names in config.pipelines.items():
        stages += plan(config.of(name), names, start, Path(), "", reward)
    return list({stage.config["digest"]: stage for stage in stages}.values())


def rehearse(config: Config, stages: list[Planned]) -> None:
    """Build what stages would build, and look at the reward model that is to judge, in a process with the libraries.

    Raises:
        UserError: an option has a value that its library rejects, or that would do nothing.
    """
    judge = judge_of(config).partition(MODEL)[2]
    call(rehearse_all, stages, find_reward_model(judge, "judge") if judge else None)


def begin(config: Config, stages: list[Planned]) -> None:
    """Write the directories of stages, and rehearse those that are not trained yet.

    Raises:
        UserError: TRL or Transformers rejects a value, or a directory is from another version.
    """
    versions_now = versions()
    for stage in stages:
        stage.config["versions"] = versions_now
        refuse_stale(stage)
        prepare_directory(stage)
    untrained = {stage.directory: stage for stage in stages if not done(stage.directory)}  # pipelines share some
    if untrained:
        rehearse(config, [*untrained.values()])


def rehearse_all(stages: list[Planned], judge: Start | None) -> None:
    """Rehearse stages one by one."""
    from recipes.training import rehearsal

    for stage in stages:
        rehearsal.rehearse(Stage.of(stage.directory, stage.config))
    if judge and judge.path != judge.identity:  # not one that a stage trained here
        rehearsal.check_reward_model(judge.path, judge.revision, "judge=reward")
