"""A model card says what the records and the table say; its head is the Hub's, and its code runs."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from comparison import PROMPTS, make_session

from eval.card import main
from eval.commands.cli import NoOptions
from eval.results.cells import text
from eval.results.metrics import GOLD
from eval.results.rows import build_rows
from eval.results.session import jobs_of


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A comparison with its cards."""
    made = make_session(tmp_path)
    main([str(made)], NoOptions())
    return made


def read(session: Path, stage: str, seed: int = 0) -> str:
    return (session.parent / f"seed-{seed}" / stage / "model" / "README.md").read_text()


def test_the_head_parses_and_states_no_licence(session: Path) -> None:
    _, head, body = read(session, "dpo").split("---\n", 2)
    found = yaml.safe_load(head)
    assert found["base_model"] == "someone/tiny" and {"trl", "dpo"} <= {*found["tags"]}
    assert found["library_name"] == "transformers" and "license" not in found and "## License" in body


def test_the_numbers_are_those_of_this_model(session: Path) -> None:
    for job in jobs_of(session):
        (row,) = (row for row in build_rows([job]) if row.pipeline == "orpo")
        card = read(session, "orpo", job["seed"])
        (line,) = (line for line in card.splitlines() if line.startswith(f"| {GOLD.title} |"))
        assert line.split(" | ")[1] == text(GOLD, row), "the base model comes after it"
        assert f"seed {job['seed']}," in card and f"over {PROMPTS} held-out prompts" in card
    assert "| dropped: empty | 3 | 0 |" in card and "| nll_span | `full` |" in card
    assert "starting from SFT" in read(session, "dpo") and "starting from" not in card


def test_no_secret_is_published(session: Path) -> None:
    assert "secret" not in read(session, "orpo")


def test_its_code_runs(session: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = session.parent / "seed-0" / "orpo" / "model"
    shutil.copytree(tiny_model, directory, dirs_exist_ok=True)
    monkeypatch.chdir(directory)
    code = re.search(r"```python\n(.*?)```", read(session, "orpo"), re.S)
    assert code
    exec(code[1], names := {})  # noqa: S102 (ours)
    assert len(names["response"]) <= 4, "dataset.max_new_tokens"
