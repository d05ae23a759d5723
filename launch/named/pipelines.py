"""Pipelines that a command line spells, stage by stage: `pipeline=sft+orpo,orpo,sft+dpo,dpo`."""

from recipes.config import UserError
from recipes.methods import METHODS

# Stages -> the pipeline's name, where it is not that of its stages: a pipeline `dpo` has SFT first.
NAMES = {("sft", "dpo"): "dpo", ("dpo",): "dpo_alone", ("sft", "reward", "rloo"): "rlhf"}


def spelled(word: str) -> list[str]:
    """Return a word that spells pipelines as the options that define them; any other word as it is.

    In a value with a `+` every part is a list of stages, so that `dpo` there is DPO alone.

    Raises:
        UserError: a stage is no method, or two pipelines are the same.
    """
    key, _, value = word.partition("=")
    if key != "pipeline" or "+" not in value:
        return [word]
    lists = [part.split("+") for part in value.split(",")]
    unknown = next((stage for stages in lists for stage in stages if stage not in METHODS), None)
    if unknown is not None:
        raise UserError(f"{word}: {unknown!r} is not a stage; build pipelines from {', '.join(METHODS)}: sft+orpo,orpo")
    named = {NAMES.get(tuple(stages), "_".join(stages)): stages for stages in lists}
    if len(named) < len(lists):
        raise UserError(f"{word}: name each pipeline once")
    defined = [f"+pipelines.{name}=[{','.join(stages)}]" for name, stages in named.items() if name != "sft"]
    return ["pipeline=sft", *([] if "sft" in named else ["~pipelines.sft"]), *defined]
