"""The judge of a comparison among the stages: a reward model that is trained for it, or one that is named."""

from pathlib import Path

from launch.config.judging import GOLD, MODEL, TRAINED, judge_of
from launch.config.schema import Config
from launch.stages.digest import Planned, Start, plan_stage
from launch.stages.inputs import find_reward_model
from recipes.profiles import JUDGE


def plan_judge(
    config: Config, start: Start, pairs: Path, fingerprint: str
) -> tuple[list[Planned], dict[str, str | None]]:
    """Return what is to be trained for the judge, and the evaluation's settings for it.

    A trained judge starts from the base model, as the policies do, on pairs that none of them sees.

    Raises:
        UserError: the reward model named cannot be found.
    """
    judge = judge_of(config)
    if judge == TRAINED:
        planned = plan_stage(config, "reward", start, pairs, fingerprint, split={"split": JUDGE})
        return [planned], {"judge": str(planned.directory)}
    if judge.startswith(MODEL):
        found = find_reward_model(judge.removeprefix(MODEL), "judge")
        return [], {"judge": found.identity if found.revision else found.path}
    return [], {} if judge == GOLD else {"judge": None}
