"""The judge of a comparison among the stages: a reward model that is trained for it, or one that is named."""

from pathlib import Path
from typing import Any

from launch.config.judging import GOLD, MODEL, TRAINED, judge_of
from launch.config.schema import Config
from launch.stages.digest import Planned, Start, plan_stage
from launch.stages.inputs import find_reward_model
from launch.stages.processes import call
from recipes.profiles import JUDGE, TEST


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
        # a directory may hold another model next time; a stage's is never overwritten, and a commit stays
        content = {} if found.revision or found.identity == found.path else {"judge_digest": found.identity}
        return [], {"judge": found.identity if found.revision else found.path, **content}
    return [], {} if judge == GOLD else {"judge": None}


def named(judge: str) -> str:
    """Return the directory of a reward model that `judge` names, or its hub id at its commit.

    Raises:
        UserError: it cannot be found.
    """
    found = find_reward_model(judge.removeprefix(MODEL), "judge")
    return found.identity if found.revision else found.path


def check_judge(config: Config, pairs: Path) -> None:
    """Have a reward model that is named read the held-out rows: an evaluation, when all is trained, would fail.

    Raises:
        UserError: its chat template rejects one.
    """
    judge = judge_of(config)
    if judge.startswith(MODEL):
        call(read_held_out, named(judge), {"pairs": str(pairs), "split": config.eval_split or TEST})


def read_held_out(judge: str, held: dict[str, Any]) -> None:
    """Read the held-out rows in a process that has the libraries."""
    from eval.answers.reward_judge import Judge, given
    from eval.results.prompts import held_out_rows

    Judge(judge).read(*given(held_out_rows(held), "chosen"))
