"""docs/choosing.md: its settings are the launcher's, and every line of advice points to its evidence."""

import re
from pathlib import Path

import yaml

from dev.trouble import CASES, FIGURES, block, repeats
from launch.named.defaults import AFTER_SFT, TABLE, Rates
from recipes.config import read_json

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "choosing.md").read_text()
SURE = ("sure", "likely", "guess")  # the words with which a line of advice says how sure it is
POINTER = r"\]\(|arXiv:|`conf/|`make "  # a link, a paper, a file with its source, a command


def lines(head: str) -> list[list[str]]:
    """Return the cells of each line of every table whose head begins with `head`."""
    tables = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-:|]+\|\n((?:\|.*\n)+)", PAGE, re.M)
    assert tables, f"no table begins with {head!r}"
    return [line.strip("| \n").split(" | ") for table in tables for line in table.splitlines()]


def shown(row: Rates) -> list[str]:
    size = "more" if row.below == float("inf") else f"below {row.below / 1e9:g}B"
    rates = (f"{rate:.0e}".replace("e-0", "e-") for rate in (row.sft, row.dpo, row.orpo))
    return [size, *rates, f"{row.weight:g}", row.source]


def test_the_settings_by_size_are_the_launchers() -> None:
    assert lines("parameters") == [shown(row) for row in TABLE]
    beta = {name: lines("setting")[place][1] for place, name in ((0, "dpo"), (1, "simpo"))}
    assert {AFTER_SFT[name] for name in ("dpo", "cpo", "kto")} == {float(beta["dpo"])}
    assert beta["simpo"].startswith(f"{AFTER_SFT['simpo']:g} ")


def test_every_line_of_advice_says_how_sure_it_is_and_points_to_its_evidence() -> None:
    for head in ("you have", "setting", "question"):
        for _, _, evidence, sure in lines(head):
            assert re.search(POINTER, evidence), evidence
            assert sure.startswith(SURE), sure


def test_every_published_figure_that_it_names_is_there() -> None:
    published = yaml.safe_load((ROOT / "paper" / "published.yaml").read_text())
    there = {f"{figure['source']}, {figure['table']}" for figure in published["figures"]}
    named = {*re.findall(r"\[([^\]]+)\]\(\.\./paper/published\.yaml\)", PAGE)}
    assert len(named) > 5 and named <= there


def test_every_pipeline_that_a_page_names_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    values = {value for page in pages for value in re.findall(r"\bpipeline=([a-z_,+]+)", page.read_text())}
    named = {name for value in values if "+" not in value for name in value.strip(",").split(",")}
    assert len(named) > 4 and named <= {path.stem for path in (ROOT / "conf" / "pipeline").glob("*.yaml")}


def test_the_trainings_that_go_wrong_are_shown_as_they_were_measured() -> None:
    kept = read_json(FIGURES)
    assert kept.keys() == CASES.keys()
    for name, case in CASES.items():
        assert kept[name]["command"] == case.command and len(kept[name]["columns"]) > 1
        assert block(kept[name]) in PAGE


def test_a_response_repeats_itself_if_four_words_come_three_times() -> None:
    once = "The river of Farholt is the Fallow. "
    assert repeats(3 * once) and not repeats(2 * once)
    assert repeats("la la la la la la") and not repeats("la la la la la") and not repeats("")
