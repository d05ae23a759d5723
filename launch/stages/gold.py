"""A gold reward that the user names scores the held-out pairs before anything trains."""

from pathlib import Path
from typing import Any

from launch.config.schema import Config
from launch.stages.processes import call
from recipes.profiles import EMBEDDED, TEST


def check_gold(config: Config, pairs: Path) -> None:
    """Let the function score both responses of every held-out pair, and say how often it agrees with the data.

    An evaluation, when all is trained, would fail where it fails. The embedded world's own needs no test.

    Raises:
        UserError: it fails on a response, or gives no finite number, or two for one response.
    """
    gold = config.dataset.gold
    if config.evaluate and gold not in (None, EMBEDDED):
        call(score_held_out, gold, {"pairs": str(pairs), "split": config.eval_split or TEST})


def score_held_out(name: str, held: dict[str, Any]) -> None:
    """Score the held-out pairs in a process that has the libraries."""
    from eval.answers.gold import agreement
    from eval.results.prompts import held_out
    from recipes.system.commands import console

    console.print(f"       {agreement(name, held_out(held))}", soft_wrap=True)
