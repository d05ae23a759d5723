"""AlpacaEval 2's figures for a file of annotations, by `alpaca_eval`'s own code, with Student's interval."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from eval.answers.files import read_rows
from eval.results.statistics import estimate
from recipes.config import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # alpaca_eval imports pkg_resources
    level = logging.getLogger().level
    from alpaca_eval import metrics
    from alpaca_eval.metrics import glm_winrate

    logging.getLogger().setLevel(level)  # which it raises for all libraries

LEAST = 300  # prompts needed for a length-controlled figure: with 54 it was exactly 50 where the truth was 69


def score(annotations: list[dict[str, Any]], difficulty: str | None) -> dict[str, Any]:
    """Return AlpacaEval's figures, in percent, with Student's interval of the win rate.

    An annotation has `preference` from 1 (the reference) to 2 (the model), or None: malformed, left out and counted.
    """
    import pandas as pd

    judged = [row for row in annotations if row.get("preference") is not None]
    if len(judged) < 2:  # no interval
        return {"judged": len(judged), "malformed": len(annotations)}
    found = {name: float(value) for name, value in metrics.get_winrate(pd.DataFrame(judged)).items()}
    interval = estimate(np.array([[row["preference"] or 1.5 for row in judged]]) * 100 - 100)
    controlled, reason = length_controlled(annotations, difficulty)
    return {
        "judged": len(judged),
        "malformed": len(annotations) - len(judged),
        **found,
        "win_rate_interval": [interval.low, interval.high],
        "length_controlled_winrate": controlled,
        "not_length_controlled": reason,
        "mean_length": float(np.mean([len(row["output_2"]) for row in judged])),
        "reference_mean_length": float(np.mean([len(row["output_1"]) for row in judged])),
    }


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """Return a file of annotations.

    Raises:
        UserError: a row lacks a response, or its preference is neither a number from 1 to 2 nor null.
    """
    rows = read_rows(path)
    for row in rows:
        preference = row.get("preference", "")
        known = preference is None or (isinstance(preference, int | float) and 0 <= preference <= 2)
        if not known or not all(isinstance(row.get(name), str) for name in ("instruction", "output_1", "output_2")):
            raise UserError(
                f"{path}: each annotation needs instruction, output_1, output_2, and preference, 1 to 2 or null"
            )
    return rows


def length_controlled(annotations: list[dict[str, Any]], difficulty: str | None) -> tuple[float | None, str | None]:
    """Return alpaca_eval's length-controlled win rate in percent, or None and the reason."""
    import pandas as pd

    if len(annotations) < LEAST:
        return None, f"{len(annotations)} prompts: below {LEAST} the fit collapses to 50"
    if difficulty is None:
        return None, "needs AlpacaEval's table of difficulties: difficulty=df_gamed.csv"
    if not Path(difficulty).is_file():
        raise UserError(
            f"difficulty={difficulty} is no file: get df_gamed.csv from the Hub's data set tatsu-lab/alpaca_eval"
        )
    table = pd.read_csv(difficulty)
    if "index" not in table or "instruction_difficulty" not in table:
        raise UserError(f"difficulty={difficulty} lacks columns index and instruction_difficulty: give df_gamed.csv")
    known = len(set(table["index"]))
    if known != len(annotations):
        return None, f"{difficulty} has {known} prompts, but there are {len(annotations)}: another set"
    lengths = [len(row["output_1"]) - len(row["output_2"]) for row in annotations]
    if len(set(lengths)) == 1:
        return None, "all responses differ from the reference's by the same length"
    glm_winrate.hf_hub_download = lambda **_: difficulty  # the function reads its table only from there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses deprecated calls of scikit-learn
        found = metrics.get_length_controlled_winrate(
            pd.DataFrame(annotations), save_weights_dir=None, is_add_glm_preference_inplace=False
        )
    return float(found["length_controlled_winrate"]), None
