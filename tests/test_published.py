"""The published figures agree with themselves: what papers say of their tables is derived from the entries again."""

from pathlib import Path

import pytest

from paper.published import Figure, find, published
from recipes.config import UserError

BOUNDS = {"win rate": (0, 100), "MT-Bench": (1, 10), "similarity": (-1, 1), "IFEval": (0, 1), "characters": (1, 10_000)}


def one(**wanted: str) -> Figure:
    (figure,) = find(**wanted)
    return figure


def test_every_figure_is_whole_and_possible() -> None:
    for figure in published():
        low, high = next((bounds for word, bounds in BOUNDS.items() if word in figure.metric), (0, 100))
        assert low <= figure.value <= high, figure
        assert figure.url.startswith("https://") and (figure.error is None or 0 < figure.error < figure.value)
        if figure.interval:
            assert figure.interval[0] < figure.value < figure.interval[1], figure


def test_no_figure_is_there_twice() -> None:
    keys = [(f.source, f.table, f.model, f.method, f.data, f.metric, f.against, f.note) for f in published()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "entry, said",
    [
        ("{source: s, table: t, model: m, method: x, metric: y, value: 1}", "missing: \\['protocol'\\]"),
        (
            "{source: s, table: t, model: m, method: x, metric: y, value: 1, protocol: p, valeu: 2}",
            "unknown: \\['valeu'",
        ),
        ("{source: s, table: t, model: m, method: x, metric: y, value: many, protocol: p}", "are numbers"),
        ("{source: s, table: 1, model: m, method: x, metric: y, value: 1, protocol: p}", "is text"),
        ("{source: s, table: t, model: m, method: x, metric: y, value: 1, protocol: q}", "protocol q"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: str, said: str) -> None:
    path = tmp_path / "figures.yaml"
    protocol = "{judge: j, prompts: p, decoding: d}"
    path.write_text(f"sources: {{s: {{url: u}}}}\nprotocols: {{p: {protocol}}}\nfigures:\n- {entry}\n")
    with pytest.raises(UserError, match=f"figure 1: .*{said}"):
        published(path)


def test_figure_1_shows_table_1() -> None:
    bars = find(source="orpo", table="figure 1")
    assert len(bars) == 7
    for bar in bars:
        same = {"model": bar.model, "method": bar.method, "data": bar.data, "metric": bar.metric}
        assert one(source="orpo", table="table 1", **same).value == bar.value  # type: ignore[arg-type]


def test_what_the_paper_says_of_table_1() -> None:
    """ORPO is above SFT and SFT+DPO on Phi-2, Llama-2 + ORPO above its 13B chat model, Mistral + ORPO above Zephyr."""
    for metric in ("AlpacaEval 1.0 win rate", "AlpacaEval 2.0 win rate"):
        table = {(f.model, f.method, f.data): f.value for f in find(source="orpo", table="table 1", metric=metric)}
        orpo, data = "ORPO", "UltraFeedback"
        assert table["Phi-2", orpo, data] > table["Phi-2", "SFT+DPO", data] > table["Phi-2", "SFT", data]
        assert table["Llama-2-7B", orpo, data] > table["Llama-2-Chat-13B", "released", None]
        assert table["Mistral-7B", orpo, "UltraFeedback cleaned"] > table["Zephyr-beta", "released", None]
        alpha, zephyr = table["Mistral-7B", orpo, data], table["Zephyr-alpha", "released", None]
        assert alpha > zephyr
    (said,) = find(source="orpo", table="section 6.1")
    assert alpha - zephyr == pytest.approx(2.98) and said.value == 1.98, "the paper contradicts itself"


def test_what_the_paper_says_of_tables_2_and_3() -> None:
    """ORPO beats SFT and PPO at every size, gains on DPO with size, and loses to DPO in three of six cells."""
    lost = []
    for table in ("table 2", "table 3"):
        rates = {(f.model, f.against): f.value for f in find(source="orpo", table=table)}
        assert len(rates) == 9
        assert all(rate > 50 for (_, against), rate in rates.items() if against != "SFT+DPO")
        over_dpo = [rates[f"OPT-{size}", "SFT+DPO"] for size in ("125M", "350M", "1.3B")]
        assert over_dpo == sorted(over_dpo)
        lost += [(table, model) for (model, against), rate in rates.items() if against == "SFT+DPO" and rate < 50]
    assert lost == [("table 2", "OPT-125M"), ("table 2", "OPT-350M"), ("table 3", "OPT-125M")]
    highest = max(f.value for f in find(source="orpo", table="table 2", against="SFT"))
    assert highest == 84.0 and one(source="orpo", table="section 6.3").value == 78.0, "the paper contradicts itself"


def test_what_the_paper_says_of_diversity_and_cost() -> None:
    """ORPO's answers to one prompt are more alike than DPO's, and across prompts less; it needs half the passes."""
    for model in ("Phi-2", "Llama-2-7B"):
        table = {(f.method, f.metric): f.value for f in find(source="orpo", table="table 4", model=model)}
        assert table["ORPO", "per-input similarity"] > table["SFT+DPO", "per-input similarity"]
        assert table["ORPO", "across-input similarity"] < table["SFT+DPO", "across-input similarity"]
    for metric in ("forward passes per batch", "models in memory"):
        assert (
            2 * one(source="orpo", method="ORPO", metric=metric).value
            == one(source="orpo", method="SFT+DPO", metric=metric).value
        )


def test_the_categories_make_the_total_of_mt_bench() -> None:
    """They were read off a plot, each to 0.15: their mean lies that near the printed total."""
    for total in find(source="orpo", table="section 6.2"):
        found = [f.value for f in find(source="orpo", table="figure 4", data=total.data)]
        assert len(found) == 8 and sum(found) / 8 == pytest.approx(total.value, abs=0.15)


def test_judging_the_same_outputs_again_moves_less_than_two_standard_errors() -> None:
    for metric in ("AlpacaEval 1.0 win rate", "AlpacaEval 2.0 win rate"):
        same = {"model": "Mistral-7B", "data": "UltraFeedback cleaned", "metric": metric}
        paper, board = one(source="orpo", table="table 1", **same), one(source="alpaca-eval", **same)
        assert paper.error and 0 < abs(paper.value - board.value) < 2 * paper.error


def test_independent_work_has_orpo_below_dpo() -> None:
    """SimPO's table: below in 13 of 15 cells, one tie. Blur's table 1, the paper's own method: below in all three."""
    below = tied = cells = 0
    for dpo in find(source="simpo", method="SFT+DPO"):
        (orpo,) = [f for f in find(source="simpo", model=dpo.model, metric=dpo.metric) if f.method.endswith("ORPO")]
        below, tied, cells = below + (orpo.value < dpo.value), tied + (orpo.value == dpo.value), cells + 1
    assert (below, tied, cells) == (13, 1, 15)
    for dpo in find(source="blur", table="table 1", method="SFT+DPO"):
        assert one(source="blur", table="table 1", method="ORPO", metric=dpo.metric).value < dpo.value


def test_averages_are_those_of_their_rows() -> None:
    for average in find(source="repo", metric="average of six benchmarks"):
        parts = [f.value for f in find(source="repo", method=average.method) if f is not average]
        assert len(parts) == 6 and sum(parts) / 6 == pytest.approx(average.value, abs=0.006)
    for average in find(source="mlabonne", metric="Nous average"):
        parts = [
            f.value for f in find(source="mlabonne", model=average.model, method=average.method, data=average.data)
        ]
        assert len(parts) == 5 and (sum(parts) - average.value) / 4 == pytest.approx(average.value, abs=0.006)
