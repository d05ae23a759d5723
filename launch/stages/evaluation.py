"""What a job's models are measured by: prompts, responses to each, held-out split and plain text."""

from pathlib import Path
from typing import Any

from launch.config.schema import Config
from recipes.profiles import VALIDATION


def evaluation_of(config: Config) -> dict[str, Any]:
    """Return the settings of a job's evaluation; the pairs, and who judges, are known once they are prepared.

    Raises:
        UserError: `eval_text` names no text that can be used, or `dataset.gold` no function.
    """
    from eval.answers import gold, passages  # training alone needs nothing of `eval`

    found: dict[str, Any] = {"prompts": config.eval_prompts, "samples": config.eval_samples, "seed": config.seed}
    found |= gold.identity(config.dataset.gold)
    if config.eval_text:
        found |= passages.identity(Path(config.eval_text))
    if config.eval_split == VALIDATION:  # a measurement on the test split is called as before there were two splits
        found["split"] = VALIDATION
    return found
