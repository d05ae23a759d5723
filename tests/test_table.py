"""Tables are sums and joins over files: made here by hand, so that every figure is known."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tables import SETTINGS, edit, make_session, stage

from eval.__main__ import evaluate_session
from eval.answers.load import load
from eval.readme import block
from eval.results.result import measured
from eval.results.rows import build_rows
from eval.results.session import jobs_of, sessions
from eval.results.table import write_table
from paper.claims import ACROSS, CLAIMS, write_claims
from recipes.config import FORMAT, UserError, read_json, write_config, write_json


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Two seeds of a comparison."""
    return make_session(tmp_path)


def test_costs_are_summed_over_stages_and_memory_is_the_largest(session: Path) -> None:
    rows: Any = {row.pipeline: row.values for row in build_rows(jobs_of(session))}
    assert rows["dpo"]["device_seconds"] == 40 and rows["orpo"]["device_seconds"] == 25
    assert rows["dpo"]["peak_memory_gb"] == 8 and rows["dpo"]["tokens"] == 20
    assert rows["dpo"]["forward_passes_per_pair"] == 2
    assert rows["base"]["device_seconds"] is None


def test_means_spreads_and_win_rates_are_over_seeds(session: Path) -> None:
    rows: Any = {row.pipeline: row.values for row in build_rows(jobs_of(session))}
    reward = rows["dpo"]["gold_sampled"]
    assert reward.mean == pytest.approx((2 + 2 + 2 + 3) / 4)
    assert reward.spread == pytest.approx(abs(2.0 - 2.5) / 2**0.5)
    over_sft = rows["dpo"]["win_rate_over_sft"]
    assert (over_sft.rate.mean, over_sft.verdict) == (1.0, "not distinguishable"), "two prompts are no evidence"
    assert rows["orpo"]["win_rate_over_sft"].rate.mean == pytest.approx(0.25)
    assert rows["orpo"]["win_rate_over_rival"].rate.mean == 0
    assert rows["base"]["preference_accuracy"].mean == 0.5


def test_the_interval_of_what_cannot_be_negative_begins_at_zero_at_the_least(session: Path) -> None:
    """KL of two prompts, one far above the other: a symmetric interval would reach far below zero."""
    for path in session.parent.rglob("eval/*.json"):
        write_json(path, read_json(path) | {"kl": [0.1, 5.0]})
    rows: Any = {row.pipeline: row.values for row in build_rows(jobs_of(session))}
    kl = rows["orpo"]["kl"]
    assert kl.low == 0 and kl.mean == pytest.approx(2.55) and kl.high > 2 * kl.mean


def test_the_table_is_written_and_absent_figures_are_dashes(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(session)
    lines = (session / "table.md").read_text().splitlines()
    table = [line for line in lines[: lines.index("| row over column | ORPO | SFT → DPO | SFT |")] if line[:1] == "|"]
    assert len({line.count("|") for line in table}) == 1
    (seconds,) = [line for line in table if line.startswith("| device-seconds")]
    assert seconds == "| device-seconds ↓ | 25 | 40 | 10 | – |"
    kept = json.loads((session / "table.json").read_text())["rows"]
    assert [(row["pipeline"], row["label"]) for row in kept[1:]] == [
        ("sft", "SFT"),
        ("dpo", "SFT → DPO"),
        ("orpo", "ORPO"),
    ]
    assert "table.md" in capsys.readouterr().out
    assert "\n".join(lines).count("Nothing was matched: ") == 1


def test_four_pipelines_are_compared_pair_by_pair(session: Path, tmp_path: Path) -> None:
    """12 prompts: RLHF beats the others on all of them; of 6 pairs, the least p counts 6 times."""
    golds = {"sft": [1.0] * 12, "dpo": [2.0] * 2 + [1.0] * 10, "orpo": [1.0] * 12, "rlhf": [3.0] * 12}
    directories = {name: stage(tmp_path / "seed-0" / name, name, 1, 1, values, 0) for name, values in golds.items()}
    edit(session, 0, pipelines={name: [path] for name, path in directories.items()})
    shutil.rmtree(session / "1")
    rows = {row.pipeline: row for row in build_rows(jobs_of(session))}
    assert set(rows["rlhf"].against["win_rate"]) == {"sft", "dpo", "orpo"} and not rows["base"].against
    best, worst = rows["rlhf"].against["win_rate"]["sft"], rows["sft"].against["win_rate"]["rlhf"]
    assert best.p == pytest.approx(2 / 2**12) and best.adjusted == pytest.approx(6 * 2 / 2**12)
    assert (best.verdict, worst.verdict, worst.won) == ("better", "worse", 0)
    same = rows["sft"].against["win_rate"]["orpo"]
    assert (same.verdict, same.tied, same.rate.mean) == ("not distinguishable", 1, 0.5), "12 prompts cannot show more"
    write_table(session)
    text = (session / "table.md").read_text()
    assert (
        "| SFT → RM → RLOO | 100.0% better, p = 0.003 | 100.0% better, p = 0.003 | – | 100.0% better, p = 0.003 |"
        in text
    )
    assert "Holm over the 6 pairs" in text and text.count("| SFT : ORPO |") == 3


def test_the_readme_shows_five_columns_within_a_page(session: Path, tmp_path: Path) -> None:
    """The winner is named with each of its verdicts; no line of a cell is wider than an interval in percent."""
    for seed in (0, 1):
        rlhf = stage(tmp_path / f"seed-{seed}" / "rlhf", "rloo", 20, 1, [3.0, 4.0], seed)
        found = json.loads((session / str(seed) / "job.json").read_text())["pipelines"]
        edit(session, seed, pipelines=found | {"rlhf": [rlhf]})
    write_table(session)
    table = json.loads((session / "table.json").read_text())
    rows, text = table["rows"], block("readme", table)
    assert text.startswith(
        "**In the embedded world, no pipeline is distinguishable from another; but ORPO is worse in "
    )
    assert "SFT → DPO 2.00 times the FLOPs and 4.00 times the device-seconds" in text
    cells = [cell for line in text.splitlines() if line.startswith("| ") for cell in line.strip("| ").split(" | ")[1:]]
    widest = max((part for cell in cells for part in cell.replace("not ", "<br>").split("<br>")), key=len)
    assert len(widest) <= len("[100.0%, 100.0%]") + 2, widest
    with pytest.raises(UserError, match="one setting"):
        block("readme", table | {"rows": [*rows, rows[-1] | {"setting": {"orpo.beta": 2}}]})


def test_every_claim_of_the_paper_has_its_line(session: Path) -> None:
    write_claims(session)
    text = (session / "claims.md").read_text()
    assert all(text.count(f"| {claim.text} |") == 1 for claim in (*CLAIMS, *ACROSS))
    assert "| device-seconds, ORPO / SFT → DPO: 0.625 | [0.625, 0.625] | supported |" in text, "25 against 10 + 30"


@pytest.mark.parametrize("written", [True, False])
def test_every_base_model_of_a_sweep_has_its_row(session: Path, tmp_path: Path, written: bool) -> None:
    """The setting is what the launcher wrote; of an older job, the words that not all jobs share."""
    other = stage(tmp_path / "other", "base", 0, 0, [5.0, 5.0], 1)
    for seed, name in enumerate("mn"):
        edit(session, seed, overrides=[f"model={name}", "x=1"], **({"setting": {"model": name}} if written else {}))
    edit(session, 1, model="n", base=other)
    bases: Any = {str(row.setting): row.values for row in build_rows(jobs_of(session)) if row.pipeline == "base"}
    rewards = {setting: values["gold_sampled"].mean for setting, values in bases.items()}
    assert rewards == {"model=m": -1, "model=n": 5}


def test_settings_share_the_row_of_their_base_over_all_seeds(session: Path) -> None:
    edit(session, 0, setting={"orpo.beta": 1, "sft.lora_target_modules": ["q", "v"]})
    edit(session, 1, setting={"orpo.beta": 2, "sft.lora_target_modules": None})
    rows = build_rows(jobs_of(session))
    assert [(row.setting, row.seeds) for row in rows if row.pipeline == "base"] == [({}, [0, 1])]
    assert str(rows[1].setting) == "orpo.beta=1 sft.lora_target_modules=[q,v]"
    assert len(rows) == 1 + 2 * 3


def test_what_failed_is_named_and_compared_over_common_seeds(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = json.loads((session / "1" / "job.json").read_text())["pipelines"]
    del finished["orpo"]
    edit(session, 1, pipelines=finished, errors=["orpo failed (reason); its log is [x]/log.txt"])
    write_table(session)
    table = json.loads((session / "table.json").read_text())
    rows = {row["pipeline"]: row for row in table["rows"]}
    assert rows["orpo"]["seeds"] == [0] and rows["dpo"]["seeds"] == [0, 1]
    assert rows["orpo"]["values"]["win_rate_over_sft"]["mean"] == 0.25
    assert rows["dpo"]["values"]["win_rate_over_rival"]["spread"] is None, "one seed is common"
    line = "Missing at seed=1: ORPO (orpo failed (reason); its log is [x]/log.txt)."
    assert table["missing"] == [line]
    for text in ((session / "table.md").read_text(), capsys.readouterr().out):
        assert line in text and "ORPO (seed 0)" in text


def test_a_job_that_failed_altogether_is_named(session: Path) -> None:
    edit(session, 1, pipelines={}, base="", evaluation={}, wanted=[], errors=["no space left"])
    write_table(session)
    assert "Missing at seed=1: all (no space left)." in (session / "table.md").read_text()


def test_what_was_not_evaluated_is_said(session: Path, tmp_path: Path) -> None:
    measured(tmp_path / "seed-0" / "orpo", SETTINGS).unlink()
    write_table(session)
    assert "Missing at seed=0: all (not evaluated yet)." in (session / "table.md").read_text()
    measured(tmp_path / "seed-1" / "dpo", SETTINGS | {"seed": 1}).unlink()
    with pytest.raises(UserError, match="has not been evaluated"):
        write_table(session)


def test_pairs_and_models_that_were_removed_are_named(session: Path, tmp_path: Path) -> None:
    measured(tmp_path / "seed-0" / "orpo", SETTINGS).unlink()
    with pytest.raises(UserError, match="p was removed"):
        evaluate_session(session)
    write_config(tmp_path / "seed-0" / "orpo", {"format": FORMAT, "stage": "orpo"})
    with pytest.raises(UserError, match="orpo/model was removed"):
        load(tmp_path / "seed-0" / "orpo")


def test_the_newest_session_is_the_last_that_trained_something(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "elsewhere"
    monkeypatch.setattr("eval.results.session.RUNS", runs)
    with pytest.raises(UserError, match="nothing has been trained yet"):
        sessions([])
    for age, name in enumerate(("failed", "2026-01-01", "named")):  # the newest first, whatever the names are
        shutil.copytree(session, runs / "_sessions" / name)
        for job in (runs / "_sessions" / name).glob("*/job.json"):
            if name == "failed":
                write_json(job, read_json(job) | {"pipelines": {}})
            os.utime(job, (1e9 - age, 1e9 - age))
    assert sessions([]) == sessions([], measured=True) == [runs / "_sessions" / "2026-01-01"]
    for job in (runs / "_sessions" / "2026-01-01").glob("*/job.json"):
        found = read_json(job)
        write_json(job, found | {"evaluation": found["evaluation"] | {"prompts": 1}})  # asked for, and not done yet
        os.utime(job, (1e9 - 1, 1e9 - 1))
    assert sessions([]) == [runs / "_sessions" / "2026-01-01"]
    assert sessions([], measured=True) == [runs / "_sessions" / "named"], "a table is of what was measured"
    shutil.copytree(session, runs / "_sessions" / "oldest")
    for job in (runs / "_sessions" / "oldest").glob("*/job.json"):
        job.write_text("{")
        os.utime(job, (1e9 - 9, 1e9 - 9))
    assert sessions([]) == [runs / "_sessions" / "2026-01-01"], "an older one, though damaged, is not asked for"


def test_a_directory_that_is_no_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no session"):
        sessions([str(tmp_path)])
