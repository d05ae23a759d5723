"""AlpacaEval's figures are alpaca_eval's own; a judge's log-probs become preferences as on the leaderboard."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import Messages, endpoint
from samples import OURS, REAL, real

from eval.alpaca import Options, evaluate
from eval.results.alpaca_score import LEAST, length_controlled


def test_figures_are_what_their_definitions_say() -> None:
    """A preference is 1 plus the share of a win; one of exactly a half is a draw."""
    found = evaluate(OURS / "alpaca_eval" / "annotations.json", Options())
    wins = [0, 100, 25, 50, 100, 0, 75, 0, 0, 100]
    mean = sum(wins) / 10
    assert found["win_rate"] == pytest.approx(mean) == 45
    spread = sum((win - mean) ** 2 for win in wins) / 9
    assert found["standard_error"] == pytest.approx((spread / 10) ** 0.5)
    assert (found["judged"], found["n_wins"], found["n_draws"], found["malformed"]) == (10, 4, 1, 0)


@real("alpaca_eval")
def test_the_leaderboards_figures_come_out() -> None:
    published = REAL / "alpaca_eval"
    found = evaluate(published / "phi-2-sft-annotations.json.gz", Options())
    lines = (published / "leaderboard.csv").read_text().splitlines()
    (row,) = [row for row in csv.DictReader(lines) if row[""] == "phi-2-sft"]
    assert round(found["win_rate"], 4) == 3.9776 == round(float(row["win_rate"]), 4)
    assert round(found["standard_error"], 4) == 0.6098 == round(float(row["standard_error"]), 4)
    assert (found["judged"], found["n_wins"], found["n_draws"]) == (805, int(row["n_wins"]), int(row["n_draws"]))
    low, high = found["win_rate_interval"]
    assert (high - low) / (2 * 1.96) == pytest.approx(found["standard_error"], rel=0.05), "normal theory, n = 805"
    assert found["length_controlled_winrate"] is None and "difficulty=" in found["not_length_controlled"]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def decide(messages: Messages) -> str:
    """The model whose output is good, as AlpacaEval's prompt names it; nonsense about number 3."""
    text = messages[-1]["content"]
    if "number 3." in text:
        return "neither"
    first = text.split('"model_identifier": "m"')[1].split('"model_identifier": "M"')[0]
    return "m" if "good" in first else "M"


def test_a_judged_file_is_scored_whatever_order_the_answers_were_shown_in(tmp_path: Path) -> None:
    instructions = [f"Do number {number}." for number in range(12)]
    ours = [{"instruction": one, "output": "good" if n < 5 else "bad"} for n, one in enumerate(instructions)]
    theirs = [{"instruction": one, "output": "bad" if n < 5 else "good"} for n, one in enumerate(instructions)]
    ours[11]["output"] = theirs[11]["output"]  # the same text twice is a tie, and no question
    file, reference = write(tmp_path / "ours.json", ours), write(tmp_path / "theirs.json", theirs)
    with endpoint(decide, ["limit", "drop", "broken"]) as server:
        given = Options(judge="judge", url=server.url, reference=str(reference))
        found = evaluate(file, given)
        asked = sum(server.answered.values())
        assert asked == 10 + 3, "eleven questions, and nonsense is asked for three times"
        assert evaluate(file, given) == found and sum(server.answered.values()) == asked
    assert found["judged"] == 11 and found["malformed"] == 1
    assert found["win_rate"] == pytest.approx(100 * (4 + 0.5) / 11), "wins 0, 1, 2 and 4, and one tie"
    assert "300" in found["not_length_controlled"]
    (kept,) = tmp_path.glob("alpaca-*-annotations.json")
    assert [row["instruction"] for row in json.loads(kept.read_text())] == instructions


def test_length_control_takes_back_what_length_alone_won(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    longer = random.normal(0.8, 1, LEAST)  # ours is longer, and the judge looks at nothing else
    preference = 1 + 1 / (1 + np.exp(-2 * longer))
    lengths = (1000 + 300 * longer).astype(int)
    rows = [
        {
            "instruction": str(n),
            "output_1": "x" * 1000,
            "output_2": "x" * max(1, int(length)),
            "preference": float(value),
        }
        | {"generator_1": "reference", "generator_2": "ours", "annotator": "judge"}
        for n, (length, value) in enumerate(zip(lengths, preference, strict=True))
    ]
    columns = "index,model,instruction_difficulty,preference,std_delta_len,not_gamed_baseline"
    table = [f"{n},gamed,{random.normal():.3f},0.5,0,False" for n in range(LEAST)]
    file = tmp_path / "df_gamed.csv"
    file.write_text("\n".join([columns, *table]))
    raw = 100 * (preference.mean() - 1)
    controlled, reason = length_controlled(rows, str(file))
    assert raw > 60 and reason is None and controlled is not None
    assert abs(controlled - 50) < (raw - 50) / 3
    assert length_controlled(rows[:-1], str(file))[0] is None
    same = [row | {"output_2": "y" * 1000} for row in rows]
    assert "by the same" in str(length_controlled(same, str(file))[1])
