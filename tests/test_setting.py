"""A job knows what the command line sweeps, and its own values: no table need read them out of words."""

import json
from pathlib import Path
from typing import Any

import pytest
from door import launch

USER = 2


def settings(runs: Path, *words: str) -> list[dict[str, Any]]:
    """The settings of a sweep's jobs, each of which is refused before it begins: one prompt has no interval."""
    launch("-m", f"runs={runs}", "hardware=cpu", "pipeline=orpo", "eval_prompts=1", *words, status=USER)
    jobs = sorted(runs.glob("_sessions/*/*/job.json"), key=lambda path: int(path.parent.name))
    return [json.loads(path.read_text())["setting"] for path in jobs]


def test_a_profile_has_its_name_and_an_option_its_value_as_composed(tmp_path: Path) -> None:
    found = settings(
        tmp_path, "tuning=full,lora", "orpo.learning_rate=1e-3", "orpo.nll_span=completion,null", "seed=0,1"
    )
    assert found[::2] == found[1::2], "seeds are repetitions"
    assert found[::2] == [
        {"tuning": tuning, "orpo.nll_span": span} for tuning in ("full", "lora") for span in ("completion", None)
    ]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("orpo.beta=0.1,2e-1", [{"orpo.beta": 0.1}, {"orpo.beta": 0.2}]),
        ("dataset.sources=[pocket],[]", [{"dataset.sources": ["pocket"]}, {"dataset.sources": []}]),
        ("orpo.beta=0.1", [{}]),
    ],
)
def test_values_are_those_that_json_has(word: str, found: list[dict[str, Any]], tmp_path: Path) -> None:
    assert settings(tmp_path, word) == found


def test_the_sweep_of_a_profile_counts_as_one_of_the_command_line(tmp_path: Path) -> None:
    found = settings(tmp_path, "sweep=pocket-orpo")
    assert found == [{"orpo.learning_rate": rate, "orpo.beta": beta} for rate in (1e-3, 2e-3) for beta in (1.0, 2.0)]
