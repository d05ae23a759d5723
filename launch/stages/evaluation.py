"""What a job's models are measured by: prompts, responses to each, held-out split and plain text."""

from pathlib import Path
from typing import Any

from launch.config.schema import Config
from recipes.profiles import EMBEDDED, VALIDATION


def evaluation_of(config: Config) -> dict[str, Any]:
    """Return the settings of a job's evaluation; the pairs, and who judges, are known once they are prepared.

    Raises:
        UserError: `eval_text` names no text that can be used, or `dataset.gold` no function.
    """
    found: dict[str, Any] = {"prompts": config.eval_prompts, "samples": config.eval_samples, "seed": config.seed}
    found |= of_gold(config.dataset.gold)
    if config.eval_text:
        from eval.answers.passages import identity  # training alone needs nothing of `eval`

        found |= identity(Path(config.eval_text))
    if config.eval_split == VALIDATION:  # a measurement on the test split is called as before there were two splits
        found["split"] = VALIDATION
    return found


def of_gold(name: str | None) -> dict[str, Any]:
    """Return what an evaluation keeps of a gold reward: True for the embedded world's, a function's name and code.

    Raises:
        UserError: it names no function of a local file.
    """
    if name in (None, EMBEDDED):
        return {"gold": name == EMBEDDED}
    from eval.answers.gold import identity

    return identity(name)
