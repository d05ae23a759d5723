"""The answer in words follows from the rows: verdicts, costs and sure losses, whatever rows the table has."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from eval.results.differences import differ, holm
from eval.results.headline import headline

Rows = list[dict[str, Any]]


def row(pipeline: str, label: str, flops: float | None = 1e3, **values: float) -> dict[str, Any]:
    """A row as table.json has it; its estimates have no width."""
    stages = {"dpo": ["sft", "dpo"], "base": []}.get(pipeline, [pipeline])
    estimates = {key: {"mean": mean, "low": mean, "high": mean} for key, mean in values.items()}
    found: dict[str, Any] = {"pipeline": pipeline, "label": label, "setting": {}, "stages": stages}
    return found | {"against": {}, "differences": {}, "values": estimates | {"flops": flops, "device_seconds": 10.0}}


def compare(one: dict[str, Any], other: dict[str, Any], rate: float, verdict: str, outcome: str = "win_rate") -> None:
    """Let one row win at a rate, with a verdict, and the other lose."""
    mirrored = {"better": "worse", "worse": "better"}.get(verdict, verdict)
    for ours, theirs, mean, said in ((one, other, rate, verdict), (other, one, 1 - rate, mirrored)):
        found = {"rate": {"mean": mean}, "verdict": said, "margin": 0.05, "detectable": 0.08}
        ours["against"].setdefault(outcome, {})[theirs["pipeline"]] = found


@pytest.fixture
def rows() -> Rows:
    """SFT → DPO beats ORPO, both beat SFT; SFT → DPO states fewer right facts than SFT, and has another margin."""
    sft = row("sft", "SFT", 500.0, gold_sampled=1.0, right_sampled=0.89)
    dpo = row("dpo", "SFT → DPO", 800.0, gold_sampled=2.0, right_sampled=0.82, margin=0.1)
    orpo = row("orpo", "ORPO", 1000.0, gold_sampled=1.5, right_sampled=0.86, margin=0.2)
    compare(dpo, orpo, 0.62, "better")
    compare(dpo, sft, 0.72, "better")
    compare(orpo, sft, 0.63, "better")
    dpo["differences"] = {
        "right_sampled": {"sft": {"verdict": "worse"}, "orpo": {"verdict": "not distinguishable"}},
        "margin": {"orpo": {"verdict": "worse"}},
    }
    return [row("base", "base model"), sft, dpo, orpo]


def test_a_win_stands_with_its_cost_and_its_loss(rows: Rows) -> None:
    first, further = headline(rows)
    assert first == (
        "In the embedded world, SFT → DPO gives better responses than ORPO (62 : 38, sure) for 0.80 times its FLOPs; "
        "but it states the right fact less often (82.0% against SFT's 89.0%)."
    ), "and log-probs of held-out pairs are no loss: ORPO trains on the margin"
    assert further == "Against SFT alone: ORPO 63 : 37 (better), SFT → DPO 72 : 28 (better)."


def test_opponents_with_one_verdict_share_its_words(rows: Rows) -> None:
    _, _, dpo, orpo = rows
    alone = row("dpo_alone", "DPO alone", 400.0)
    compare(dpo, alone, 0.7, "better")
    compare(orpo, alone, 0.55, "not distinguishable")
    first, *_ = headline([*rows, alone])
    assert first.startswith(
        "In the embedded world, SFT → DPO gives better responses than ORPO (62 : 38, sure) for 0.80 times its FLOPs "
        "and DPO alone (70 : 30, sure) for 2.00 times its FLOPs; but"
    )


def test_many_losses_are_counted(rows: Rows) -> None:
    _, sft, dpo, _ = rows
    others = ("right_greedy", "stopped", "gold_sampled")
    for key in others:
        sft["values"][key] = dpo["values"][key] = {"mean": 0.5}
    dpo["differences"] |= {key: {"sft": {"verdict": "worse"}} for key in others}
    (first, *_) = headline(rows)
    assert first.count("against") == 2 and first.endswith("and 2 other rows are surely worse (▼ in the table).")


def test_responses_that_do_not_end_are_a_warning(rows: Rows) -> None:
    rows[2]["values"]["truncated"], rows[3]["values"]["truncated"] = 0.96, 0.1
    found = [line for line in headline(rows) if "truncated" in line]
    assert len(found) == 1 and found[0].startswith("96.0% of SFT → DPO's responses were truncated")


def test_a_row_without_words_of_its_own_is_named_and_seconds_replace_flops(rows: Rows) -> None:
    _, sft, dpo, orpo = rows
    for one in rows:
        one["values"] |= {"flops": None, "gold_sampled": None, "reward_sampled": {"mean": 1.0}}
    dpo["differences"] = {"reward_sampled": {"sft": {"verdict": "worse"}, "orpo": {"verdict": "worse"}}}
    orpo["values"]["device_seconds"], sft["values"]["reward_sampled"] = 5.0, {"mean": 3.0}
    (first, *_) = headline(rows)
    assert first == (
        "On these prompts, SFT → DPO gives better responses than ORPO (62 : 38, sure) for 2.00 times its "
        "device-seconds; but it is worse in judge's reward, temperature 1 (1.00 against ORPO's 1.00 and SFT's 3.00)."
    )


def test_what_is_not_sure_comes_with_advice(rows: Rows) -> None:
    _, _, dpo, orpo = rows
    compare(dpo, orpo, 0.53, "not distinguishable")
    orpo["differences"] = {"right_sampled": {"dpo": {"verdict": "worse"}}}
    first, _, advice = headline(rows)
    assert "is not distinguishable from ORPO (53 : 47)" in first
    assert "; but it states" in first and first.endswith(
        "and ORPO states the right fact less often (86.0% against SFT → DPO's 82.0%)."
    )
    assert (
        advice.startswith("A true win rate of 58.0% for SFT → DPO would have been found with probability 80%")
        and "seeds" in advice
    )
    dpo["against"]["win_rate"]["orpo"]["detectable"] = None
    assert headline(rows)[-1].startswith("No win rate could have been found")


def test_no_best_is_named_where_none_of_many_is_told_apart(rows: Rows) -> None:
    _, sft, dpo, orpo = rows
    alone = row("dpo_alone", "DPO alone", 600.0, right_sampled=0.8)
    for one, other in combinations([sft, dpo, orpo, alone], 2):
        compare(one, other, 0.6, "not distinguishable")
    orpo["differences"] = {"right_sampled": {"dpo_alone": {"verdict": "better"}}}
    alone["differences"] = {"right_sampled": {"orpo": {"verdict": "worse"}, "dpo": {"verdict": "worse"}}}
    dpo["differences"] = {}
    first, paid, over_sft, advice = headline([*rows, alone])
    assert first == (
        "In the embedded world, no pipeline is distinguishable from another; but DPO alone states the right fact less "
        "often (80.0% against ORPO's 86.0% and SFT → DPO's 82.0%)."
    )
    assert paid == ("SFT is the cheapest: DPO alone takes 1.20 times its FLOPs, SFT → DPO 1.60 and ORPO 2.00.")
    assert over_sft.startswith("Against SFT alone: ") and advice.startswith("A true win rate of 58.0%")
    del orpo["against"]["win_rate"]["dpo_alone"]  # not compared: nobody says that these two are alike
    assert " is not distinguishable from " in headline([*rows, alone])[0]


def test_what_is_practically_the_same_is_chosen_by_cost(rows: Rows) -> None:
    compare(rows[2], rows[3], 0.51, "practically the same")
    first, *_, advice = headline(rows)
    assert "is practically the same as ORPO (51 : 49, surely between 45 and 55)" in first
    assert advice == "Choose the cheaper of SFT → DPO and ORPO: SFT → DPO."


def test_sft_is_named_where_it_is_not_beaten(rows: Rows) -> None:
    compare(rows[2], rows[1], 0.4, "worse")
    assert (
        "than ORPO (62 : 38, sure) for 0.80 times its FLOPs and gives worse responses than SFT (40 : 60, sure)"
        in headline(rows)[0]
    )


def test_a_weak_judge_and_no_judge_give_no_verdict_and_say_what_to_do(rows: Rows) -> None:
    for place, one in enumerate(rows[1:], 1):
        one["values"]["judge_accuracy"] = {"mean": 0.53, "low": 0.5, "high": 0.56}
        for other in rows[place + 1 :]:
            compare(one, other, 0.5, "no verdict")
    first, advice = headline(rows)
    assert first == "No verdict on ORPO and SFT → DPO: the judge is too weak."
    assert "53.0% [50.0%, 56.0%]" in advice and "judge=" in advice
    compare(rows[2], rows[3], 0.7, "better", "people")
    assert headline(rows)[0].startswith("By people's votes, SFT → DPO gives better responses than ORPO (70 : 30, sure)")
    for one in rows:
        one["against"] = {}
    first, advice = headline(rows)
    assert "nobody has compared" in first and "make judge" in advice


def test_three_candidates_and_single_ones(rows: Rows) -> None:
    rlhf = row("rlhf", "SFT → RM → RLOO", 1600.0, gold_sampled=3.0)
    for other, rate, verdict in (
        (rows[3], 0.8, "better"),
        (rows[2], 0.55, "not distinguishable"),
        (rows[1], 0.9, "better"),
    ):
        compare(rlhf, other, rate, verdict)
    assert (
        "SFT → RM → RLOO gives better responses than ORPO (80 : 20, sure) for 1.60 times its FLOPs "
        "and is not distinguishable from SFT → DPO (55 : 45) for 2.00 times its FLOPs."
    ) in headline([*rows, rlhf])[0]
    assert headline(rows[:2]) == ["Nothing to compare: only SFT was trained."]
    assert "SFT → DPO gives better responses than SFT (72 : 28, sure) for 1.60 times its FLOPs" in headline(rows[:3])[0]


def test_each_of_a_few_settings_has_its_answer(rows: Rows) -> None:
    swept = [one | {"setting": {"orpo.beta": beta}} for beta in (1, 2) for one in rows[1:]]
    assert [line.partition(": ")[0] for line in headline(swept)] == ["orpo.beta=1", "orpo.beta=2"]
    many = [one | {"setting": {"orpo.beta": beta}} for beta in range(5) for one in rows[1:]]
    assert headline(many)[0].startswith("No single answer: 5 settings")


def test_a_sweep_of_one_pipeline_is_called_so_once(rows: Rows) -> None:
    settings = [rows[3] | {"setting": {"orpo.beta": beta}} for beta in (0.1, 0.2)]
    assert headline(settings) == ["A sweep of ORPO over 2 settings: no pipeline to compare with in any of them."]


def test_a_paired_difference_is_the_mean_of_differences_and_its_p_is_exact() -> None:
    """Of 12 prompts ten are lost and none is won: the exact test of signs; the mirror image sees a win."""
    ours, theirs = np.array([[0.0] * 10 + [1.0] * 2]), np.ones((1, 12))
    found = differ(ours, theirs, None, "higher", shares=True)
    assert found.mean.mean == pytest.approx(-10 / 12) and found.p == pytest.approx(2 / 2**10)
    assert -1 <= found.mean.low < found.mean.mean < found.mean.high < 0
    assert (found.verdict, found.reversed().verdict) == ("worse", "better")
    assert differ(ours, theirs, None, "lower", shares=True).verdict == "better"
    assert differ(10 * ours, 10 * theirs, None, "higher").p == found.p, "whatever the unit"
    equal = differ(theirs, theirs, None, "higher", shares=True)
    assert (equal.p, equal.mean.mean) == (1, 0)
    assert [one.adjusted for one in holm([found, equal, equal])] == [3 * found.p, 1, 1]


def test_equal_pipelines_have_no_sure_difference_more_often_than_said() -> None:
    """300 worlds of 60 prompts in 20 clusters, whose prompts are alike: at most 5%, and what chance adds."""
    draw = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 3)

    def scores(seeds: int) -> np.ndarray:
        return draw.normal(size=(seeds, 20))[:, clusters] + draw.normal(size=(seeds, 60))

    for seeds in (1, 3):
        found = [differ(scores(seeds), scores(seeds), clusters, "higher").p < 0.05 for _ in range(300)]
        assert np.mean(found) < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
