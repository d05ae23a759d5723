"""Across models: of responses whose rewards are known, which verdicts hold, and how far win rates are apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparison import PROMPTS, make_session
from test_report import SCHEMA, problems

from eval.report import write_report
from eval.results.across import DIFFERS, SAME, UNKNOWN, Section, across
from eval.results.across_text import notes, sections, told
from eval.results.best import is_sweep
from eval.results.row import Row
from eval.results.rows import build_rows
from eval.results.session import jobs_of
from eval.results.statistics import step_down
from eval.results.table import write_table
from recipes.config import read_json, write_json

Wins = Callable[[int], float]  # place of a prompt -> the gold reward of ORPO's response; that of SFT → DPO's is 0


def model_of(folder: Path, name: str, orpo: Wins, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs of one model, two seeds: SFT → DPO and SFT get 0 for every response, ORPO what is given."""
    jobs = [read_json(path) for path in sorted(make_session(folder / name).glob("*/job.json"))]
    for file in (folder / name).glob("seed-*/*/eval/*.json"):
        result = read_json(file)
        rewards: Wins = orpo if file.parent.parent.name == "orpo" else lambda _: 0.0
        for place, response in enumerate(result["sampled"]):
            response["gold"] = rewards(place)
        write_json(file, result)
    return [job | {"model": name, "setting": {"model": name, **setting}} for job in jobs]


def session_of(folder: Path, models: dict[str, Wins], seeds: int = 2, **setting: Any) -> Path:
    """A session of several models."""
    found = [job for name, orpo in models.items() for job in model_of(folder, name, orpo, setting)[:seeds]]
    for place, job in enumerate(found):
        (folder / "session" / str(place)).mkdir(parents=True)
        write_json(folder / "session" / str(place) / "job.json", job)
    return folder / "session"


def rows_of(folder: Path, models: dict[str, Wins], seeds: int = 2, **setting: Any) -> list[Row]:
    return build_rows(jobs_of(session_of(folder, models, seeds, **setting)))


def candidates(found: Section) -> Any:
    """What is said of SFT → DPO and ORPO."""
    return next(pair for pair in found.rivals if set(pair.pipelines) == {"dpo", "orpo"})


def won(_: int) -> float:
    return 1.0


def lost(_: int) -> float:
    return -1.0


def half(place: int) -> float:
    return 1.0 if place % 2 else -1.0


@pytest.mark.parametrize(
    ("first", "second", "agreement", "apart", "sure", "said"),
    [
        (won, won, SAME, 0.0, False, "the verdict is the same with both models, better with small (100 : 0) and large"),
        (
            won,
            lost,
            DIFFERS,
            1.0,
            True,
            "the verdict differs, better with small (100 : 0) and worse with large (0 : 100)",
        ),
        (
            won,
            half,
            UNKNOWN,
            0.5,
            True,
            "cannot be told, better with small (100 : 0) and not sure with large (50 : 50)",
        ),
        (half, half, UNKNOWN, 0.0, False, "cannot be told, not sure with small (50 : 50) and large (50 : 50)"),
    ],
)
def test_verdicts_agree_only_where_both_are_sure(
    first: Wins, second: Wins, agreement: str, apart: float, sure: bool, said: str, tmp_path: Path
) -> None:
    """With one seed p is the exact one of signs: of the prompts on which the models differ all point one way."""
    rows = rows_of(tmp_path, {"small": first, "large": second}, seeds=1)
    (found,) = across(rows)
    pair = candidates(found)
    assert pair.pipelines == ("orpo", "dpo") and pair.agreement() == agreement
    (between,) = pair.between.values()
    assert between.prompts == PROMPTS and between.difference.sure == sure
    assert between.difference.p == pytest.approx(min(1, 2 / 2 ** round(apart * PROMPTS)))
    assert between.difference.mean.mean == pytest.approx(apart)
    low, high = between.difference.mean.low, between.difference.mean.high
    assert low - 1e-9 <= apart <= high + 1e-9 and high - low > 0.1, "and an interval is never empty"
    (sentence,) = told(rows)
    assert sentence.startswith("Across models, ORPO against SFT → DPO: ") and said in sentence
    assert ("the win rates surely differ (small minus large: +" in sentence) == sure


def test_the_pair_is_seen_from_the_side_that_wins_more_often(tmp_path: Path) -> None:
    """So a win rate below one half stands out: with that model it is the other way round."""
    (found,) = across(rows_of(tmp_path, {"small": lost, "large": half}))
    pair = candidates(found)
    assert pair.pipelines == ("dpo", "orpo")
    assert [one.rate.mean for one in pair.found.values()] == [1.0, 0.5]
    assert pair.between["small", "large"].difference.mean.mean == 0.5


def test_p_is_adjusted_over_all_differences_of_the_section(tmp_path: Path) -> None:
    """Three pairs of pipelines and three models: nine differences; one model has none."""
    third: Wins = lambda place: 1.0 if place % 3 else -1.0  # noqa: E731
    rows = rows_of(tmp_path, {"a": won, "b": half, "c": third})
    (found,) = across(rows)
    apart = [one.difference for pair in found.rivals for one in pair.between.values()]
    assert len(apart) == 9 and [one.adjusted for one in apart] == step_down([one.p for one in apart])
    ((title, (head, *lines)),) = sections(rows)
    assert title == "Across models" and len(lines) == 9 and {len(line) for line in lines} == {len(head)}
    assert across([row for row in rows if row.setting.model == "a"]) == []


def test_prompts_that_one_model_did_not_answer_count_for_neither(tmp_path: Path) -> None:
    """ORPO wins ten prompts with the small model; the large one's tokenizer dropped them, and the others are turned."""
    rows = rows_of(tmp_path, {"small": lambda place: float(place < 10), "large": lambda _: 0.0})
    for row in rows:
        for result in row.results if row.setting.model == "large" else ():
            for part in (result["sampled"], result["greedy"], result["further"], result["clusters"]["prompts"]):
                part[:] = part[:9:-1]
    (pair,) = [candidates(found) for found in across(rows)]
    (between,) = pair.between.values()
    assert (between.prompts, between.difference.mean.mean) == (20, 0.0)
    assert "over the 20 held-out prompts that both models answered" in notes(rows)[0]
    for row in rows:
        for response in row.results[0]["sampled"] if row.setting.model == "large" else ():
            response["prompt"] += " Elsewhere."
    assert not candidates(across(rows)[0]).between and "no prompts or no seeds are in common" in told(rows)[0]
    assert sections(rows)[0][1][1][-4:] == ["–"] * 4


def test_only_seeds_that_both_models_trained_are_paired(tmp_path: Path) -> None:
    session = session_of(tmp_path, {"small": won, "large": half})
    jobs = jobs_of(session)
    found = [candidates(across(build_rows(some))[0]).between for some in (jobs, jobs[:3], [jobs[0], jobs[3]])]
    spreads = [[one.difference.mean.spread for one in between.values()] for between in found]
    assert spreads == [[0.0], [None], []], "two seeds, one, and none"


def test_only_pairs_that_were_asked_for_are_compared(tmp_path: Path) -> None:
    session = session_of(tmp_path, {"small": won, "large": half})
    (found,) = across(build_rows([job | {"compare_with": "sft"} for job in jobs_of(session)]))
    assert [pair.pipelines for pair in found.rivals] == [("orpo", "sft"), ("dpo", "sft")]


def test_clusters_vary_and_not_prompts(tmp_path: Path) -> None:
    """Thirty prompts about three places are three clusters: what is sure of thirty is not sure of three."""
    rows = rows_of(tmp_path, {"small": won, "large": half}, seeds=1)
    assert candidates(across(rows)[0]).between["small", "large"].difference.sure
    for row in rows:
        for result in row.results:
            result["clusters"]["prompts"] = [place // 10 for place in range(PROMPTS)]
    assert not candidates(across(rows)[0]).between["small", "large"].difference.sure


def test_each_judge_is_named_and_a_weak_one_decides_nothing(tmp_path: Path) -> None:
    models = {"small": won, "large": won, "weak": lost}
    session = session_of(tmp_path, models)

    def judged(names: dict[str, str]) -> list[Row]:
        for name, judge in names.items():
            for file in (tmp_path / name).glob("**/eval/*.json"):
                result = read_json(file)
                for response in result["sampled"]:
                    response["reward"] = response["gold"]
                right = [float(place % 2) if name == "weak" else 1.0 for place in range(PROMPTS)]
                write_json(file, result | {"judge": {"name": judge, "right": right}})
        return build_rows(jobs_of(session))

    rows = judged({name: f"reward of {name}" for name in models})
    (found,) = across(rows)
    assert found.weak == ["weak"] and list(candidates(found).found) == ["small", "large"]
    assert told(rows)[0].endswith("; the judge of weak is too weak.")
    (note,) = notes(rows)
    assert "with small by a reward model" in note and "with large by" in note and "come from the judges" in note
    (note,) = notes(judged(dict.fromkeys(models, "one")))
    assert "with every model a win is decided by a reward model" in note and "come from the judges" not in note
    rows = judged({name: f"reward of {name}" for name in models})
    (only,) = told([row for row in rows if row.setting.model != "small"])
    assert only == "Across models, there is no verdict: the judge of weak is too weak."


def options(beta: float) -> dict[str, Any]:
    return {"orpo.beta": beta}


def test_other_options_have_a_section_each(tmp_path: Path) -> None:
    rows = [
        row
        for beta in (0.1, 0.2)
        for row in rows_of(tmp_path / str(beta), {"small": won, "large": half}, **options(beta))
    ]
    assert [found.setting for found in across(rows)] == [{"orpo.beta": 0.1}, {"orpo.beta": 0.2}]
    assert [line.partition(",")[0] for line in told(rows)] == [
        "Across models at orpo.beta=0.1",
        "Across models at orpo.beta=0.2",
    ]


def test_table_page_and_json_begin_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = session_of(tmp_path, {"small": won, "large": half})
    write_report(session, write_table(session))
    rows = build_rows(jobs_of(session))
    ((title, lines),), (sentence,) = sections(rows), told(rows)
    assert sentence in " ".join(capsys.readouterr().out.split())
    text, page = (session / "table.md").read_text(), (session / "report.html").read_text()
    assert text.startswith(f"**{sentence}**") and f"**{title}**" in text and notes(rows)[0] in text
    assert all(f"| {' | '.join(line)} |" in text for line in lines)
    assert page.index("answer-line") < page.index("the verdict is the same cannot be told") and "small, large" in page
    results = read_json(session / "results.json")
    assert problems(results, SCHEMA) == []
    assert results["headline"][0] == sentence and len(results["headline"]) >= 3, "and each model's own answer"
    (part,) = results["across_models"]
    assert part == read_json(session / "table.json")["across_models"][0]
    assert (part["models"], {pair["agreement"] for pair in part["pairs"]}) == (["small", "large"], {UNKNOWN})
    assert not is_sweep(rows) and "best setting" not in text, "a base model is no setting to choose"


def test_many_pairs_are_counted(tmp_path: Path) -> None:
    """With one more pipeline, SFT → DPO once more, there are three pairs of candidates; ORPO's two are not sure."""
    session = session_of(tmp_path, {"small": won, "large": half}, seeds=1)
    for path in session.glob("*/job.json"):
        job = read_json(path)
        write_json(path, job | {"pipelines": job["pipelines"] | {"sft_cpo": job["pipelines"]["dpo"]}})
    (sentence,) = told(build_rows(jobs_of(session)))
    assert sentence == (
        "Across models, of 3 pairs of pipelines the verdict is the same with both models for 1, differs for 0 and "
        "cannot be told for 2; of 3 differences of win rates 2 are sure."
    )
