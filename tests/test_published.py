"""The published figures agree with themselves: what papers say of their tables is derived from the entries again."""

from pathlib import Path

import numpy as np
import pytest

from paper.published import Figure, find, published
from recipes.config import UserError

BOUNDS = {
    **{"per cent": (0, 100), "1 to 10": (1, 10), "cosine similarity": (-1, 1), "share": (0, 1), "reward": (-1, 1)},
    "count": (1, 4),
}


def one(**wanted: str | int) -> Figure:
    (figure,) = find(**wanted)
    return figure


def test_every_figure_is_whole_and_possible() -> None:
    for figure in published():
        low, high = (1, 10_000) if "characters" in figure.metric else BOUNDS[figure.protocol.scale]
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
        ("{source: s, table: t, model: m, method: x, metric: y, value: 1, error: 1, protocol: p}", "says of what"),
        ("{source: s, table: t, model: m, method: x, metric: y, value: 1, error: 1, protocol: r}", "their number"),
        ("{source: s, table: t, model: m, method: x, metric: y, value: 1, seeds: five, protocol: r}", "are numbers"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: str, said: str) -> None:
    path = tmp_path / "figures.yaml"
    protocols = "{p: {judge: j, prompts: p, decoding: d}, r: {judge: j, prompts: p, decoding: d, error: seeds}}"
    path.write_text(f"sources: {{s: {{url: u}}}}\nprotocols: {protocols}\nfigures:\n- {entry}\n")
    with pytest.raises(UserError, match=f"figure 1: .*{said}"):
        published(path)


@pytest.mark.parametrize("wrong", ["error: trainings", "error: rounds", "rounds: 3"])
def test_a_protocol_says_what_its_errors_are(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "figures.yaml"
    path.write_text(f"sources: {{}}\nprotocols: {{p: {{judge: j, prompts: p, decoding: d, {wrong}}}}}\nfigures: []\n")
    with pytest.raises(UserError, match="protocol p: error is one of prompts, rounds, seeds, reading, and rounds need"):
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


def test_oxrl_has_orpo_first_at_1_5b_and_last_at_7b() -> None:
    """Of 20 and of 6 losses; the printed differences from DPO, and two figures for DPO in one setting."""
    at = {size: find(source="oxrl", table=f"variants at {size}") for size in ("1.5B", "7B")}
    order = {size: [f.method for f in sorted(found, key=lambda f: -f.value)] for size, found in at.items()}
    assert [len(found) for found in order.values()] == [20, 6]
    assert order["1.5B"][0] == "ORPO" and order["1.5B"].index("DPO") == 11 and order["7B"][-1] == "ORPO"
    for size, printed in (("1.5B", 4.12), ("7B", -4.79)):
        value = {f.method: f.value for f in at[size]}
        assert value["ORPO"] - value["DPO"] == pytest.approx(printed, abs=0.011)
    same = find(source="oxrl", model="Qwen2.5-1.5B-Instruct", method="DPO")
    assert {(f.value, f.seeds) for f in same} == {(49.76, 5), (49.08, 3)} and all(f.note for f in same)


@pytest.mark.parametrize(
    ("table", "size", "method", "seeds"),
    [
        ("variants at 7B", "7B", "DPO", [83.85, 82.79, 83.02, 84.23, 83.02]),
        ("core", "1.5B", "DPO", [49.58, 49.43, 48.22]),
        ("core", "1.5B", "KTO", [51.33, 53.22, 48.90]),
        ("14B", "14B", "SimPO", [85.6, 86.6, 87.3]),
    ],
)
def test_oxrls_deviations_divide_by_n(table: str, size: str, method: str, seeds: list[float]) -> None:
    """Its appendix prints the seeds: their deviation with n - 1 is another than the printed one."""
    figure = one(source="oxrl", table=table, model=f"Qwen2.5-{size}-Instruct", method=method)
    assert figure.seeds == len(seeds) and figure.value == pytest.approx(np.mean(seeds), abs=0.03)
    assert figure.ddof == 0 and figure.error == pytest.approx(np.std(seeds), abs=0.02)
    assert np.std(seeds, ddof=1) > (figure.error or 0) + 0.05


def test_dft_has_orpo_alone_at_sfts_level_without_sft() -> None:
    """Of the preference losses from the base model, in GSM8K and IFEval; averages are those of their rows."""
    table = {(f.method, f.metric): f.value for f in find(source="dft")}
    for metric in ("GSM8K", "IFEval"):
        below = [method for method in ("ORPO", "DPO-p", "KTO", "SimPO") if table[method, metric] < table["SFT", metric]]
        assert below == ["DPO-p", "KTO", "SimPO"]
    average = "average of seven benchmarks"
    for method in {method for method, _ in table}:
        parts = [value for (name, metric), value in table.items() if name == method and metric != average]
        assert len(parts) == 7 and sum(parts) / 7 == pytest.approx(table[method, average], abs=0.006)


def test_what_the_sources_are_said_to_show() -> None:
    """The sentences of published.yaml that have no test above: RePO, TinyLlama, ORPO-Distill."""
    gsm8k = {f.method: f.value for f in find(source="repo", metric="GSM8K 5-shot")}
    assert gsm8k["SFT+DPO"] / gsm8k["SFT"] == pytest.approx(0.75, abs=0.03) and gsm8k["SFT+ORPO"] > 0.9 * gsm8k["SFT"]
    for metric in ("TruthfulQA 0-shot", "ARC-C 25-shot"):
        found = {f.method: f.value for f in find(source="repo", metric=metric)}
        assert found["SFT+DPO"] > found["SFT+ORPO"]
    reward = {(f.model, f.method): f.value for f in find(source="tinyllama")}
    assert reward["TinyLlama-1.1B-Chat", "ORPO"] > reward["TinyLlama-1.1B", "ORPO"] > 0.5717
    assert reward["TinyLlama-1.1B-Chat", "DPO"] < 0.5717
    mixed, *others = [f.value for f in find(source="orpo-distill")]
    assert mixed > max(others)
