"""Imports run one way, from package to package and from room to room; TRL's experimental trainers have one door."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What may import what: each place whatever stands before it. A bare package is what lies on top of it, its commands.
ROOMS = {
    "recipes": ("system", "profiles", "config", "methods", "data", "engine", "training", ""),
    "launch": ("config", "named", "tuning", "stages", "forecast", "executors", ""),
    "eval": ("answers", "results", "pages", "commands", ""),
    "doctor": ("",),
    "pocket": ("",),
    "verifiable": ("",),
    "paper": ("",),
    "dev": ("bench", "gpu", "faults", "statistics", ""),
}
BELOW = {
    "pocket": set(),
    "verifiable": set(),
    "recipes": {"pocket"},
    "doctor": {"recipes", "pocket", "eval"},
    "launch": {"recipes", "pocket", "doctor", "eval"},
    "eval": {"recipes", "pocket"},
    "paper": {"recipes", "launch", "eval"},
    "dev": {"recipes", "pocket", "launch", "eval"},
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ROOMS
    for path in sorted((ROOT / package).rglob("*.py"))
}
# With the names of packages too: importing one runs its `__init__`.
MODULES = {name.removesuffix(".__init__") for name in FILES}


def imports(path: Path, top: bool = False) -> Iterator[str]:
    """The modules that a file imports; `from a import b` is of `a.b` where that is a module of ours."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (names & MODULES) or {node.module or ""}


def packages(folder: str, top: bool = False) -> set[str]:
    return {
        name.split(".")[0]
        for module, path in FILES.items()
        if module.split(".")[0] == folder
        for name in imports(path, top)
    }


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    first = rest.split(".")[0]
    return first if first in ROOMS[package] else ""


def test_every_file_is_met() -> None:
    """A test that looks for files finds none where folders have moved, and then nothing can fail."""
    assert {path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/**/*.py")} >= set(ROOMS)
    counts = {package: sum(name.split(".")[0] == package for name in FILES) for package in ROOMS}
    assert counts["recipes"] > 35 and counts["launch"] > 40 and counts["eval"] > 50 and counts["dev"] > 20
    for package, rooms in ROOMS.items():
        folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file()}
        assert folders <= set(rooms), f"a folder of {package} that no rule speaks of"


@pytest.mark.parametrize("package", ROOMS)
def test_a_package_imports_only_those_below(package: str) -> None:
    assert packages(package) & set(ROOMS) <= BELOW[package] | {package}


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_those_before_it(package: str) -> None:
    order = ROOMS[package].index
    wrong = [
        f"{module} imports {name}"
        for module, path in FILES.items()
        if module.split(".")[0] == package
        for name in imports(path)
        if name.split(".")[0] == package and order(room(name)) > order(room(module))
    ]
    assert wrong == []


def test_no_module_waits_for_itself() -> None:
    """Imports at the top of files, all packages together, have an order; `prepare` raises where they have none."""
    graph = {module: set(imports(path, top=True)) & set(FILES) - {module} for module, path in FILES.items()}
    assert sum(map(len, graph.values())) > 300
    TopologicalSorter(graph).prepare()


def test_recipes_know_nothing_of_hydra() -> None:
    assert not packages("recipes") & {"hydra", "omegaconf"} and not packages("doctor") & {"hydra", "omegaconf"}


def test_the_doctor_is_called_by_its_two_commands_alone() -> None:
    callers = [
        module
        for module, path in FILES.items()
        if module.startswith("launch.") and any(name.startswith("doctor") for name in imports(path))
    ]
    assert sorted(callers) == ["launch.doctor", "launch.show"] and "doctor" not in packages("launch", top=True)


def test_the_launcher_starts_without_torch_or_trl() -> None:
    assert not packages("launch", top=True) & {"torch", "trl", "transformers", "datasets", "peft"}


def test_orpo_has_one_door() -> None:
    doors = [
        module
        for module, path in FILES.items()
        if not module.startswith("dev.") and any(name.startswith("trl.experimental") for name in imports(path))
    ]
    assert doors == ["recipes.engine.reference_free"]
