"""compare_with=dpo: each pipeline is tested against one, p is adjusted over those pairs, and others have no verdict."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import make_session

from eval.pages.blocks import every_method
from eval.readme import publish
from eval.results import matrix
from eval.results.headline import headline
from eval.results.metrics import WIN
from eval.results.row import Row
from eval.results.row_json import as_json
from eval.results.rows import build_rows
from eval.results.session import jobs_of
from eval.results.statistics import NONE, step_down
from eval.results.table import write_table
from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.plan import detectable
from recipes.config import UserError, read_json, write_json

Compose = Callable[..., Config]


def rows_of(session: Path, asked: str | None) -> dict[str, Row]:
    for path in session.glob("*/job.json"):
        write_json(path, read_json(path) | {"compare_with": asked})
    return {row.pipeline: row for row in build_rows(jobs_of(session)) if row.stages}


def test_only_pairs_with_the_named_pipeline_have_a_verdict(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    all_pairs, asked = rows_of(session, None), rows_of(session, "dpo")
    assert {found.family for row in all_pairs.values() for found in row.against[WIN].values()} == {3}
    for name, row in asked.items():
        for other, found in row.against[WIN].items():
            plain = all_pairs[name].against[WIN][other]
            assert (found.p, found.rate) == (plain.p, plain.rate), "what is asked changes no measurement"
            if "dpo" in (name, other):
                assert found.family == 2 and found.verdict != NONE
            else:
                assert found.verdict == NONE
                assert as_json(row)["against"][WIN][other]["adjusted"] is None


def test_holm_corrects_over_the_pairs_that_were_asked_for(tmp_path: Path) -> None:
    """Of two unequal p the smaller counts twice, the larger once."""
    session = make_session(tmp_path)
    for file in tmp_path.glob("seed-*/orpo/eval/*.json"):  # ORPO wins on two prompts of three against SFT → DPO
        result = read_json(file)
        for place, response in enumerate(result["sampled"]):
            response["gold"] = 9.0 if place % 3 else -9.0
        write_json(file, result)
    asked = rows_of(session, "dpo")
    found = {name: asked[name].against[WIN]["dpo"] for name in ("sft", "orpo")}
    small, large = sorted(found.values(), key=lambda one: one.p)
    assert small.p < large.p
    assert (small.adjusted, large.adjusted) == pytest.approx((min(1, 2 * small.p), max(2 * small.p, large.p)))


def test_marked_regressions_are_one_family_over_all_rows_and_pairs_that_were_asked_for(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    for asked, pairs in ((None, 3), ("dpo", 2)):
        rows = rows_of(session, asked)
        found = {
            (key, *sorted((name, other))): one
            for name, row in rows.items()
            for key, others in row.differences.items()
            for other, one in others.items()
        }
        assert len({names[1:] for names in found}) == pairs and len(found) % pairs == 0
        assert {one.family for one in found.values()} == {len(found)}
        ordered = list(found.values())
        assert [one.adjusted for one in ordered] == pytest.approx(step_down([one.p for one in ordered]))
        write_table(session)
        assert f"after Holm over the {len(found)} differences" in (session / "table.md").read_text()


@pytest.mark.parametrize("asked", ["sft", "orpo"])
def test_the_answer_is_about_the_named_pipeline(tmp_path: Path, asked: str) -> None:
    first, *_ = headline([as_json(row) for row in rows_of(make_session(tmp_path), asked).values()])
    label = {"sft": "SFT", "orpo": "ORPO"}[asked]
    assert f"SFT → DPO gives better responses than {label} (" in first and "no verdict" not in first


def test_without_the_named_pipeline_all_pairs_are_compared(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    for path in session.glob("*/job.json"):  # it failed
        job = read_json(path)
        write_json(path, job | {"pipelines": {name: job["pipelines"][name] for name in ("sft", "orpo")}})
    rows = rows_of(session, "dpo")
    assert rows["orpo"].against[WIN]["sft"].asked
    assert "ORPO" in headline([as_json(row) for row in rows.values()])[0]


def test_the_page_says_what_was_asked(tmp_path: Path) -> None:
    rows = rows_of(make_session(tmp_path), "dpo")
    ((_, table),) = matrix.matrices(list(rows.values()))
    places = {name: place for place, name in enumerate(table[0])}
    cells = {(line[0], name): line[place] for line in table[1:] for name, place in places.items() if place}
    assert cells["ORPO", "SFT"].endswith("%") and "p = " not in cells["ORPO", "SFT"]
    assert "p = " in cells["ORPO", "SFT → DPO"] or "p < " in cells["ORPO", "SFT → DPO"]
    pairs = [line[0] for line in matrix.tests(list(rows.values())) if "gold" in line[1]]
    assert pairs and all("SFT → DPO" in pair for pair in pairs)
    assert "over the 2 pairs" in matrix.explain(list(rows.values()))[0]
    assert matrix.explain(list(rows.values()))[-1].startswith("Only they were asked for (compare_with=)")
    said = headline([as_json(row) for row in rows.values()])
    assert "no verdict" not in " ".join(said)


def test_it_must_name_a_pipeline_and_makes_the_plans_differences_smaller(compose: Compose) -> None:
    config = compose("pipeline=methods")
    assert config.compare_with == "dpo"
    with pytest.raises(UserError, match="compare_with=kto: use one of the pipelines, sft, dpo, sft_orpo"):
        refuse_useless(compose("pipeline=methods", "compare_with=kto"))
    asked, everything = (
        next(iter(detectable(one, 400))) for one in (config, compose("pipeline=methods", "compare_with=null"))
    )
    ours, theirs = ([int(rate) for rate in re.findall(r"(\d+) : \d+", line)] for line in (asked, everything))
    assert ours[0] == theirs[0] == 50 and all(one < other for one, other in zip(ours[1:], theirs[1:], strict=False))


def test_the_page_of_all_methods_has_a_line_for_each_pipeline(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    rows_of(session, "dpo")
    write_table(session)
    text = every_method(read_json(session / "table.json"))
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][2:] == [
        "| ORPO",
        "| SFT → DPO",
        "| SFT",
    ]
    orpo = next(line for line in text.splitlines() if line.startswith("| ORPO")).split(" | ")
    assert "p = " in orpo[1] or "p < " in orpo[1]
    assert orpo[2].endswith("%"), "it was not asked for: no verdict"
    assert orpo[-1] == "1.00 |", "both are one stage of equal cost here"
    with pytest.raises(UserError, match="page=all: use readme, methods, verifiable, harmless"):
        publish(session, "all")
