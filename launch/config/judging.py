"""Who decides which of two responses is better: the option `judge`."""

from collections.abc import Iterable
from dataclasses import replace

from launch.config.first import OF_JUDGE, begins
from launch.config.schema import Config
from recipes.config import UserError
from recipes.profiles import VALIDATION

AUTO, GOLD, TRAINED, NONE = "auto", "gold", "trained", "none"
FRACTION = 0.2  # of the training prompts, for a judge that is trained
MODEL = "reward:"  # followed by a reward model's directory or hub id
ELSEWHERE = ("llm", "people")  # judges that are queried after training, by a command of their own
CHOICES = (AUTO, GOLD, TRAINED, *ELSEWHERE, NONE)


def judge_of(config: Config) -> str:
    """Return who decides a comparison: gold, trained, reward:…, llm, people or none.

    By itself it is the gold reward where the data set has one, else a reward model that is trained for the purpose,
    where pipelines or, on the validation split, settings are compared.

    Raises:
        UserError: there is no such judge, or not of this data set.
    """
    judge = config.judge
    if judge == GOLD and not config.dataset.gold:
        raise UserError(f"judge=gold: {config.dataset.name} has no gold reward; use judge=auto, or name a reward model")
    if judge not in CHOICES and not (judge.startswith(MODEL) and judge != MODEL):
        raise UserError(f"judge={judge}: choose one of {', '.join(CHOICES)}, or {MODEL}<directory or Hub id>")
    if judge != AUTO:
        return judge
    if config.dataset.gold:
        return GOLD
    compares = len(config.pipelines) > 1 or config.eval_split == VALIDATION
    return TRAINED if config.evaluate and compares else NONE


def with_one_judge(config: Config, swept: Iterable[str]) -> Config:
    """Return a configuration that ranks the settings of a sweep by one judge, or by none.

    A judge that is trained has a batch size, adapters and options of its own training. Where these are swept, each
    setting would be scored by another judge, and rewards of two judges have no common scale. Of several pipelines each
    setting's are still compared by its judge.

    Raises:
        UserError: a judge is to be trained for each setting of one pipeline.
    """
    own = [name for name in swept if begins(name, OF_JUDGE)]
    if not own or len(config.pipelines) > 1 or judge_of(config) != TRAINED:
        return config
    if config.judge == TRAINED:
        raise UserError(
            f"judge=trained: each value of {own[0]} would have its own judge, and their rewards would not be on "
            "one scale: name one judge, judge=reward:<directory or Hub id>, or remove judge=trained"
        )
    return replace(config, judge=NONE)


def with_judge_fold(config: Config) -> Config:
    """Return a configuration that keeps pairs for the judge only where it is trained.

    Raises:
        UserError: there is no such judge, or nothing would be left to train it or the policies on.
    """
    if judge_of(config) != TRAINED:
        return replace(config, dataset=replace(config.dataset, judge_fraction=None))
    fraction = FRACTION if config.dataset.judge_fraction is None else config.dataset.judge_fraction
    if not 0 < fraction < 1:
        raise UserError(
            f"dataset.judge_fraction={fraction}: give a share between 0 and 1 of the training prompts, or another "
            "judge: judge=none, judge=reward:<model>"
        )
    return replace(config, dataset=replace(config.dataset, judge_fraction=fraction))


def trained_stages(config: Config) -> list[str]:
    """Return the stages that a job trains, those of its pipelines and of its judge, each once.

    Raises:
        UserError: there is no such judge.
    """
    return list(dict.fromkeys([*config.stages, *(["reward"] if judge_of(config) == TRAINED else [])]))
