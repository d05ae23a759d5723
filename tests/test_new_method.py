"""A method is four files: its recipe, its row in the table of methods, its options and a pipeline; all else follows."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from door import ROOT, command, losses, record, run, stages

FILES = Path(__file__).parent / "new_method"
PACKAGES = ("conf", "doctor", "eval", "launch", "pocket", "recipes")
SHORT = ("rrhf.max_steps=2", "rrhf.learning_rate=1e-3", "rrhf.logging_steps=1")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout to which somebody has added RRHF."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FILES / "rrhf.py", copy / "recipes" / "rrhf.py")
    shutil.copy(FILES / "stage.yaml", copy / "conf" / "stage" / "rrhf.yaml")
    shutil.copy(FILES / "pipeline.yaml", copy / "conf" / "pipeline" / "rrhf.yaml")
    table = copy / "recipes" / "methods.py"
    text, start = table.read_text(), "METHODS = {\n"
    assert text.count(start) == 1
    table.write_text(text.replace(start, start + (FILES / "row.txt").read_text()))
    return copy


def test_a_new_method_is_trained_evaluated_tabled_and_forecast(
    tree: Path, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    options = ["pipeline=rrhf", "batch_size=1", "hardware.per_device_batch=1", *SHORT]
    given = words(tmp_path, *options, "evaluate=true", "eval_prompts=4")
    run(command(*given), cwd=tree)
    (directory,) = stages(tmp_path, "rrhf-*")
    assert record(directory)["forward_passes_per_pair"] == pytest.approx(2 * record(directory)["epochs"])
    log = [json.loads(line) for line in (directory / "log_history.jsonl").read_text().splitlines()]
    for entry, loss in zip(log, losses(directory), strict=False):  # an update is one pair
        margin = entry["logps_mean/chosen"] - entry["logps_mean/rejected"]
        assert entry["rewards_scaled/margins"] == pytest.approx(margin, rel=1e-5)
        assert entry["nll_loss"] == pytest.approx(-entry["logps_mean/chosen"], rel=1e-5)
        assert loss == pytest.approx(max(0.0, 0.5 - margin) + entry["nll_loss"], rel=1e-5)
    (session,) = (tmp_path / "_sessions").iterdir()
    assert "RRHF" in (session / "table.md").read_text()
    page = (session / "report.html").read_text()
    assert "RRHF, nats" in page and "#7f6bd6" in page
    assert "rrhf" in run([sys.executable, "-m", "launch.plan", *given], cwd=tree)
    shown = run([sys.executable, "-m", "launch.show", *words(tmp_path, "row=1")], cwd=tree)
    assert re.search(r"^RRHF, DPO, .* rejected: \d+ tokens, \d+ context only, \d+ compared", shown, re.M)


def test_the_copys_table_is_complete(tree: Path) -> None:
    """What follows from the table follows without PyTorch, which the launcher must not wait for."""
    asked = "import sys; from launch.config.trl_options import STAGES; print(STAGES[0], 'torch' in sys.modules)"
    assert run([sys.executable, "-c", asked], cwd=tree).split() == ["rrhf", "False"]
