"""What people's votes say: of whom, in which order they are asked, and how far judges agree."""

import re
from pathlib import Path

import numpy as np
import pytest
from ballots import judge_all, judging, number
from comparison import PROMPTS, SEEDS, SETTINGS, make_session

from eval.answers.votes import Pair, Vote, now
from eval.results.people import compare_by_votes, kappa, notes
from eval.results.result import measured
from eval.results.table import rows_of, write_table
from recipes.config import read_json, write_json


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return make_session(tmp_path)


def test_order_and_sides_are_a_judges_own(session: Path) -> None:
    orders, sides = [], []
    for name in ("ada", "bob"):
        with judging(session, name, None) as found:
            orders.append(list(found.pairs))
            sides.append([found.sides(pair)[0] for _, pair in sorted(found.pairs.items())])
            prompts = [pair.prompt for pair in found.pairs.values()]
    assert {*orders[0]} == {*orders[1]} and orders[0] != orders[1] and sides[0] != sides[1]
    assert len(orders[0]) == 3 * PROMPTS * len(SEEDS)
    assert all(len(sides[0]) / 3 < sum(side) < len(sides[0]) * 2 / 3 for side in sides)
    assert all(len({*prompts[start : start + 6]}) == 1 for start in range(0, len(prompts), 6))


def test_two_judges_votes_are_rows_of_the_table_with_their_agreement(session: Path) -> None:
    """By gold DPO wins always. Ada says so of even prompts, else tie; Bob always: averaged, 75% + 25% / 2."""
    with judging(session, "ada") as found:
        judge_all(found, lambda pair: "tie" if number(pair) % 2 else "dpo")
    with judging(session, "bob") as found:
        judge_all(found, lambda pair: "dpo")
        page = found.page()
    write_table(session)
    rows = {row["pipeline"]: row for row in read_json(session / "table.json")["rows"]}
    found = rows["dpo"]["values"]["people_over_rival"]
    assert found["mean"] == pytest.approx(0.875) and 0.5 < found["low"] < 0.875 < found["high"] < 1
    assert found["verdict"] == "better" and rows["orpo"]["values"]["people_over_rival"]["verdict"] == "worse"
    assert rows["dpo"]["values"]["people_over_sft"] is None
    text = (session / "table.md").read_text()
    assert "| people's win rate against its rival ↑ | 12.5% ± 0.0% [" in text
    assert "by ada (60), bob (60); 0 skipped" in text and "| SFT → DPO : ORPO | people's votes | 100.0% |" in text
    assert "ada and the table (gold reward, temperature 1) agree on 50.0% [" in text
    assert "of 60 pairs, Cohen's kappa 0.00." in text
    assert re.search(r"agree on 100.0% \[8\d.\d%, 100.0%\] of 60 pairs, Cohen's kappa undefined\.", text), (
        "of 30 prompts"
    )
    assert "ada and bob agree on 50.0% [" in text
    assert page["table"][1][:2] == ["SFT → DPO : ORPO", "120"] and page["table"][1][2].startswith("87.5% [")


def test_a_vote_counts_for_the_responses_that_it_was_cast_on(session: Path) -> None:
    with judging(session) as found:
        judge_all(found, lambda pair: "skip" if number(pair) == 1 else "orpo")
    settings = read_json(session / "0" / "job.json")["evaluation"]
    path = measured(session.parent / "seed-0" / "orpo", settings)
    result = read_json(path)
    result["sampled"][0]["text"] = "generated again"
    write_json(path, result)
    (dpo,) = (row for row in rows_of(session) if row.pipeline == "dpo")
    votes = [vote for _, vote in dpo.votes]
    assert len(votes) == 59 and sum(vote.choice == "skip" for vote in votes) == 2
    assert dpo.against["people"]["orpo"].rate.mean == 0


def test_where_nothing_decides_there_is_nothing_to_agree_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preference accuracy is never a win."""
    monkeypatch.setitem(SETTINGS, "gold", False)
    session = make_session(tmp_path)
    for path in tmp_path.glob("**/eval/*.json"):
        result = read_json(path)
        for response in result["sampled"]:
            response.pop("gold", None)
        write_json(path, result)
    with judging(session) as found:
        judge_all(found, lambda pair: "orpo" if number(pair) < 6 else "tie")
        notes = found.page()["notes"]
    assert len(notes) == 1 and notes[0].startswith("People: 60 votes")


def test_judges_agree_over_the_prompts_of_every_data_set(session: Path, tmp_path: Path) -> None:
    (row, *_), (other, *_) = rows_of(session), rows_of(make_session(tmp_path / "elsewhere"))
    for result in other.results:
        for response in result["sampled"]:
            response["prompt"] = f"Elsewhere: {response['prompt']}"
    for one in (row, other):
        pairs = [pair_of(answer["prompt"], 0) for answer in one.results[0]["sampled"]]
        one.votes = [(pair, vote_on(pair, "left", judge)) for pair in pairs for judge in ("ada", "bob")]
    (*_, said) = notes([row, other])
    assert "ada and bob agree on 100.0%" in said and f"of {2 * PROMPTS} pairs" in said


def pair_of(prompt: str, seed: int) -> Pair:
    return Pair(prompt, seed, ("dpo", "orpo"), ("a", "b"), 0.5)


def vote_on(pair: Pair, choice: str, judge: str = "ada") -> Vote:
    return Vote(judge, pair.id, "", pair.seed, *pair.names, choice, now())


def test_a_prompt_counts_with_every_seed_or_not_at_all() -> None:
    choices = {("p", 0): "left", ("p", 1): "right", ("q", 0): "tie", ("q", 1): "left", ("r", 0): "left"}
    choices |= {("s", 0): "left", ("s", 1): "skip"}
    judged = [(pair, vote_on(pair, choice)) for place, choice in choices.items() for pair in [pair_of(*place)]]
    alone = {prompt: place for place, prompt in enumerate("pqrs")}
    found = compare_by_votes(judged, alone)
    assert found and found.rate.mean == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert (found.won, found.tied, found.lost) == (0.5, 0.25, 0.25)
    assert compare_by_votes(judged[:2], alone) is None and compare_by_votes([], {}) is None, (
        "one prompt has no interval"
    )
    assert compare_by_votes(judged, dict.fromkeys("pqrs", 0)) is None, "and related ones are one"


def test_the_mean_of_the_votes_decides_and_not_the_count_of_prompts() -> None:
    """60 prompts are lost by one vote of two and 31 won by both: p = 0.003 of the counts, but a mean of 0.505."""
    choices = [("tie", "right")] * 60 + [("left", "left")] * 31
    judged = [(pair_of(str(place), 0), choice) for place, two in enumerate(choices) for choice in two]
    alone = {str(place): place for place in range(len(choices))}
    found = compare_by_votes([(pair, vote_on(pair, choice)) for pair, choice in judged], alone)
    assert found and found.rate.mean == pytest.approx((60 * 0.25 + 31) / 91)
    assert found.lost > found.won and found.p > 0.5 and found.verdict == "not distinguishable"


def test_cohens_kappa() -> None:
    """20 both yes, 5 and 10 one of them, 15 both no: 70% against 50% by chance."""
    one, other = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 5, 10, 15]), np.repeat([1.0, 0.0, 1.0, 0.0], [20, 5, 10, 15])
    assert kappa(one, other) == pytest.approx(0.4) and kappa(one, one) == pytest.approx(1)
    assert kappa(np.ones(5), np.ones(5)) is None
