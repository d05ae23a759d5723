"""What a page says its answer covers: prompts and seeds, what was tuned and how, and what carries over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparison import make_session

from eval.results.carried import carried_over
from eval.results.rows import build_rows
from eval.results.scope import scope
from eval.results.session import jobs_of
from launch.config.schema import Config
from launch.config.tuned import found_by, without_named
from pocket.pairs import unseen
from pocket.world import TEST_PROMPTS


def told(session: Path, **more: Any) -> str:
    """The scope of a session whose jobs also hold what is given."""
    for path in session.glob("*/job.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    jobs = jobs_of(session)
    return " ".join(scope(build_rows(jobs), jobs))


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return make_session(tmp_path)


def test_what_was_tuned_is_said_with_its_trials_and_its_edges(session: Path) -> None:
    assert "the defaults were, on the validation prompts of this world" in told(session)
    chosen = {"dpo": {"at_edge": ["dpo.beta", "sft.learning_rate"]}, "orpo": {"at_edge": []}}
    said = told(session, tuned={"trials": 8, "split": "validation", "pipelines": chosen})
    assert "Tuned: 8 trials of each pipeline, chosen by the judge on the validation split." in said
    assert (
        "SFT → DPO may do better beyond what was tried: its best values of dpo.beta and sft.learning_rate are" in said
    )
    assert "ORPO may do better" not in said


def test_settings_that_were_tuned_before_are_not_said_to_be_untuned(
    session: Path, compose: Callable[..., Config]
) -> None:
    words = ["pipeline=methods", "experiment=all-methods"]
    by = without_named(compose(*words), words).tuned_by
    assert by and "eight trials on the validation split" in by and "\n" not in by
    said = told(session, tuned_by=by)
    assert f"Settings: {by}." in said and "Nothing was tuned" not in said
    words += ["sft.learning_rate=1e-3", "seed=1"]
    assert without_named(compose(*words), words).tuned_by == f"{by}; but the command line sets sft.learning_rate"


def test_a_profiles_own_settings_without_their_origin_are_said_to_be_so(compose: Callable[..., Config]) -> None:
    words = ["pipeline=compare", "+tuned={orpo: {orpo.beta: 0.2}}"]
    assert "does not say how they were found" in (found_by(compose(*words)) or "")
    assert found_by(compose("pipeline=compare")) is None


def test_one_seed_is_about_its_models(session: Path) -> None:
    assert "about the methods" in told(session)
    shutil.rmtree(session / "1")
    assert "about these models only" in told(session)


def test_a_session_of_the_validation_split_says_that_nothing_was_tested(session: Path) -> None:
    jobs = jobs_of(session)
    rows = build_rows(jobs)
    assert "validation split:" not in " ".join(scope(rows, jobs))
    for job in jobs:
        job["evaluation"]["split"] = "validation"
    assert "Of the validation split: settings are chosen here" in " ".join(scope(rows, jobs))


def test_what_carries_over_is_shown_where_there_are_both_kinds_of_prompts(session: Path) -> None:
    """New wordings and unseen places add up to all prompts: right on the one kind and wrong on the other shows."""
    rows = build_rows(jobs_of(session))
    assert carried_over(rows) == []
    for row in rows:
        for result in row.results:
            for answers in (result["sampled"], *map(list, zip(*result["further"], strict=True))):
                for place, answer in enumerate(answers):
                    answer["unseen"] = unseen(TEST_PROMPTS[place])
                    answer["right"] = not answer["unseen"]
    ((title, (head, *lines)),) = carried_over(rows)
    assert title == "What carries over" and len(head) == 5 and len(lines) == len(rows)
    for line in lines:
        assert line[1].startswith("100.0% [") and line[2].startswith("0.0% [")
    named = {line[0]: line for line in lines}
    assert named["SFT"][3:] == named["base model"][3:] == ["–", "–"]
    assert all(cell.endswith("]") for cell in named["ORPO"][3:])
