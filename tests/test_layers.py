"""Imports run one way, and TRL's experimental ORPO has one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def imports(path: Path, top: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def packages(folder: str, top: bool = False) -> set[str]:
    return {name.split(".")[0] for path in (ROOT / folder).glob("*.py") for name in imports(path, top)}


def test_recipes_know_nothing_of_hydra() -> None:
    assert not packages("recipes") & {"hydra", "omegaconf", "launch", "eval", "doctor"}


def test_nothing_imports_launch_or_eval() -> None:
    for folder in ("recipes", "pocket"):
        assert not packages(folder) & {"launch", "eval", "doctor"}
    assert "eval" not in packages("launch") and "launch" not in packages("eval")
    assert not any("bench" in packages(folder) for folder in ("recipes", "pocket", "launch", "eval"))


def test_the_doctor_is_called_by_its_two_commands_alone() -> None:
    assert not packages("doctor") & {"launch", "eval", "hydra", "omegaconf"} and "doctor" not in packages("eval")
    callers = [
        path.name for path in (ROOT / "launch").glob("*.py") if any(n.startswith("doctor") for n in imports(path))
    ]
    assert sorted(callers) == ["doctor.py", "show.py"] and "doctor" not in packages("launch", top=True)


def test_the_launcher_starts_without_torch_or_trl() -> None:
    assert not packages("launch", top=True) & {"torch", "trl", "transformers", "datasets", "peft"}


def test_orpo_has_one_door() -> None:
    doors = [
        path.name
        for folder in ("recipes", "launch", "eval", "doctor", "pocket")
        for path in (ROOT / folder).glob("*.py")
        if any(name.startswith("trl.experimental") for name in imports(path))
    ]
    assert doors == ["trainers.py"]
