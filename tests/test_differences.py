"""ORPO minus DPO: which figures are compared, intervals by other means, the chart's points, and docs/evidence.md."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Canvas
from scipy import stats

from eval.pages.plots import standalone
from paper.by_size import PANELS, THICK, THIN, chart, draw, panels, trends
from paper.differences import DPO, ORPO, Difference, differences, every_source, of_two
from paper.others import page
from paper.published import PER_CENT, Figure, find, published

ROOT = Path(__file__).parent.parent
FOUND = differences()
COUNTS = {"comparison": 1, "all-methods": 2, "orpo": 12, "blur": 18, "simpo": 15, "refa": 4, "repo": 7, "oxrl": 3}
COUNTS |= {"dft": 8, "tinyllama": 1, "real-verifiable": 2, "real-harmless": 2}


def of(source: str, **wanted: object) -> list[Difference]:
    found = [one for one in FOUND if one.orpo.source == source]
    return [one for one in found if all(getattr(one.orpo, name) == value for name, value in wanted.items())]


def test_every_pair_is_there_once() -> None:
    assert Counter(one.orpo.source for one in FOUND) == COUNTS
    assert len({(one.orpo, one.dpo) for one in FOUND}) == len(FOUND)
    rows = {(f.source, f.table, f.model, f.metric) for f in published() if f.method in DPO and f.size}
    compared = {one.orpo for one in FOUND}
    lost = [f for f in published() if f.method in ORPO and not f.against and f not in compared]
    assert not [f for f in lost if (f.source, f.table, f.model, f.metric) in rows]


def test_like_is_compared_with_like() -> None:
    for one in FOUND:
        assert one.orpo.method in ORPO and one.rival in DPO and one.orpo.billions > 0
        if one.dpo:
            assert (one.orpo.model, one.orpo.protocol) == (one.dpo.model, one.dpo.protocol)
            assert one.value == one.orpo.value - one.dpo.value and not one.orpo.against
    models = {one.orpo.model: one.orpo.billions for one in FOUND}
    assert models["OPT-125M"] == 0.125 and models["Llama-3-8B-Instruct v0.2"] == 8 and models["Phi-2"] == 2.7
    pocket = yaml.safe_load((ROOT / "conf" / "model" / "pocket.yaml").read_text())
    assert round(pocket["model"]["parameters"] / 1e9, 4) == models["pocket"]


def test_both_figures_of_oxrl_for_one_setting_are_compared() -> None:
    small, again = of("oxrl", size="1.5B")
    assert (small.shares, again.shares) == ((53.89, 49.76), (53.89, 49.08)) and again.across and not small.across


def sample(mean: float, deviation: float, count: int) -> np.ndarray:
    """Numbers with this mean and this standard deviation (of n - 1)."""
    numbers = np.arange(count, dtype=float)
    return mean + deviation * (numbers - numbers.mean()) / numbers.std(ddof=1)


@pytest.mark.parametrize("one", of("oxrl"), ids=lambda one: f"{one.value:.2f}")
def test_an_interval_over_seeds_is_welchs(one: Difference) -> None:
    """SciPy's, for samples with the printed means and deviations; and its p is the printed one."""
    trainings = []
    for figure in one.figures:
        assert figure.seeds and figure.error
        correction = 1 if figure.ddof else (figure.seeds / (figure.seeds - 1)) ** 0.5
        trainings.append(sample(figure.value, figure.error * correction, figure.seeds))
    test: Any = stats.ttest_ind(*trainings, equal_var=False)
    expected = test.confidence_interval(0.95)
    assert one.interval and one.interval.over == "seeds"
    assert (one.interval.low, one.interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    if not one.across:
        assert test.pvalue == pytest.approx({"1.5B": 0.0134, "7B": 0.013}[str(one.orpo.size)], abs=5e-4)


def test_an_interval_over_prompts_adds_the_variances() -> None:
    found = [one for one in FOUND if one.interval and one.interval.over == "prompts" and one.orpo.error]
    assert len(found) == 8
    for one in found:
        assert one.dpo and one.dpo.error and one.interval and one.orpo.error
        low, high = stats.norm.interval(0.95, one.value, np.hypot(one.orpo.error, one.dpo.error))
        assert (one.interval.low, one.interval.high) == pytest.approx((low, high))


def test_two_intervals_give_one_of_the_difference() -> None:
    """Even ones as two normal intervals would; uneven ones by their nearer and farther sides."""
    (one,) = of("blur", method="ORPO", metric="Arena-Hard win rate")
    half = np.hypot(1.3, 1.8)
    assert one.interval and (one.interval.low, one.interval.high) == pytest.approx((-9.1 - half, -9.1 + half))
    assert one.dpo
    uneven = of_two(
        replace(one.orpo, value=10.0, interval=(9.0, 13.0)), replace(one.dpo, value=5.0, interval=(3.0, 6.0))
    )
    assert uneven and (uneven.low, uneven.high) == pytest.approx((5 - 2**0.5, 5 + 13**0.5))


def test_a_win_rate_is_twice_its_distance_from_one_half() -> None:
    found = [one for one in FOUND if not one.dpo and one.orpo.source == "orpo"]
    assert len(found) == 6
    for one in found:
        assert one.orpo.error and one.interval and one.interval.over == "rounds"
        rounds = stats.ttest_1samp(sample(one.orpo.value, one.orpo.error, 3), 0).confidence_interval(0.95)
        assert (one.interval.low, one.interval.high) == pytest.approx((2 * rounds.low - 100, 2 * rounds.high - 100))
        assert one.value == pytest.approx(2 * (one.orpo.value - 50))


@pytest.mark.parametrize("name", ["comparison", "all-methods", "real-verifiable", "real-harmless"])
def test_ours_are_what_the_results_files_hold(name: str) -> None:
    """Read from the other side: SFT → DPO over ORPO."""
    rows = json.loads((ROOT / "docs" / f"{name}.json").read_text())["rows"]
    against = next(row for row in rows if row["pipeline"] == "dpo")["against"]["win_rate"]
    for one in of(name):
        rate = against[{"ORPO": "orpo", "SFT+ORPO": "sft_orpo"}[one.orpo.method]]["rate"]
        assert one.value == pytest.approx(100 - 200 * rate["mean"]) and one.orpo.seeds == len(rows[0]["seeds"])
        assert one.interval
        assert one.interval.low == pytest.approx(100 - 200 * rate["high"])
        assert one.interval.high == pytest.approx(100 - 200 * rate["low"])


def test_no_interval_where_nothing_is_printed() -> None:
    bare = [one for one in FOUND if not any(f.error or f.interval for f in one.figures)]
    assert {one.orpo.source for one in bare} >= {"dft", "simpo", "repo", "refa", "tinyllama"}
    assert all(one.interval is None for one in bare)
    assert all(one.interval for one in FOUND if all(f.error or f.interval for f in one.figures))


def painted(title: str) -> tuple[Axes, list[Any], list[Difference]]:
    axes, rows = Canvas().subplots(), panels(FOUND)[title]
    draw(axes, title, rows)
    return axes, [mark for mark in axes.containers if isinstance(mark, ErrorbarContainer)], rows


@pytest.mark.parametrize("title", PANELS)
def test_the_charts_points_are_the_rows(title: str) -> None:
    """Each in its column by size, with its bar if it has an interval, and hollow if not."""
    axes, marks, rows = painted(title)
    assert len(marks) == len(rows) > 8
    places = []
    for mark, row in zip(marks, rows, strict=True):
        line, _, bars = mark.lines
        ((place, value),) = line.get_xydata()
        places.append(place)
        assert value == row.value
        assert (line.get_markerfacecolor() == "none") == (row.interval is None) == (not bars)
        for bar in bars:
            assert row.interval
            (segment,) = bar.get_segments()
            assert [y for _, y in segment.tolist()] == pytest.approx([row.interval.low, row.interval.high])
            wide = THICK if row.interval.over.startswith("seeds") else THIN
            assert list(bar.get_linewidths()) == [wide]
    assert places == sorted(set(places)) and places[0] > axes.get_xlim()[0] and places[-1] < axes.get_xlim()[1]
    sizes = [row.orpo.billions for row in rows]
    assert sizes == sorted(sizes)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list(dict.fromkeys(row.orpo.size for row in rows))


def test_every_difference_in_points_is_drawn_once() -> None:
    drawn = [one for rows in panels(FOUND).values() for one in rows]
    in_points = [one for one in FOUND if one.orpo.protocol.scale == PER_CENT]
    assert len(drawn) == len(in_points) and set(map(id, drawn)) == set(map(id, in_points))


def test_a_line_shows_that_oxrls_sign_turns_with_size() -> None:
    rows = panels(FOUND)["Benchmarks: scores"]
    ((small, large),) = trends(rows)
    assert [(rows[at].orpo.source, rows[at].orpo.size) for at in (small, large)] == [("oxrl", "1.5B"), ("oxrl", "7B")]
    before, after = rows[small].interval, rows[large].interval
    assert before and after and before.low > 0 > after.high


def test_every_source_with_a_difference_says_what_it_shows_and_what_not() -> None:
    told = {name for name, source in every_source().items() if source.shows and source.lacks}
    assert told == {*COUNTS, "zephyr-141b", "orpo-distill"}
    text = page(FOUND)
    assert all(str(every_source()[name].lacks) in text for name in told)
    beside = text.split("## ORPO's figures without a DPO model")[1]
    alone: list[Figure] = [*find(source="zephyr-141b"), *find(source="orpo-distill")]
    assert alone and all(f"{figure.metric} {figure.value:g}" in beside for figure in alone)


def test_the_page_and_the_chart_are_the_generated_ones() -> None:
    text = (ROOT / "docs" / "evidence.md").read_text()
    assert text == page(FOUND), "run `make docs`"
    assert sum(line.startswith("| [") for line in text.splitlines()) == len(FOUND)
    assert (ROOT / "docs" / "evidence.svg").read_text() == standalone(chart(FOUND)), "run `make docs`"
