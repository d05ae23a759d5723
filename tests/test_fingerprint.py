"""What counts as another code, and which files are read for it: on small trees, and on this one."""

import ast
from pathlib import Path

import pytest

from recipes.system.fingerprint import changes, fingerprint

LOSS = """'The loss.'
import math


def loss(x):
    'Return it.'
    return math.log(x)  # natural
"""
SAID_OTHERWISE = """'Another text.'
import math  # why
def loss(x):
    'Other words.'
    # a comment
    return (math.log(
        x))
"""
TRAIN = """from recipes.loss import loss
def train():
    from .data import rows
    return loss, rows
"""
TREE = {
    "recipes/__init__.py": "",
    "recipes/loss.py": LOSS,
    "recipes/train.py": TRAIN,
    "recipes/data/__init__.py": "'Rows.'\n",
    "recipes/data/rows.py": "import pocket\n",
    "recipes/system/files.py": "import recipes.unused\n",
    "recipes/unused.py": "UNUSED = 1\n",
    "pocket/__init__.py": "WORLD = 2\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of a few modules."""
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_files_are_those_that_a_module_imports_wherever_the_import_stands(tree: Path) -> None:
    """Within a function, relative, and a package's `__init__`, unless there is no code in it."""
    names = ["pocket/__init__.py", "recipes/data/rows.py", "recipes/loss.py", "recipes/train.py"]
    assert list(fingerprint("recipes.train", root=tree)) == names
    assert list(fingerprint("recipes.loss", root=tree)) == ["recipes/loss.py"]
    assert fingerprint("math", "torch.nn", root=tree) == {}


def test_comments_docstrings_and_formatting_change_nothing(tree: Path) -> None:
    before = fingerprint("recipes.train", root=tree)
    (tree / "recipes/loss.py").write_text(SAID_OTHERWISE)
    assert fingerprint("recipes.train", root=tree) == before


@pytest.mark.parametrize(
    "old, new",
    [
        ("math.log(x)", "math.log(x + 0)"),
        ("math.log(x)", "math.log10(x)"),
        ("return math", "math"),
        ("def loss(x)", "def loss(x=None)"),
        ("return math.log(x)", '"no docstring any more"'),
    ],
)
def test_a_changed_line_changes_its_file_alone(tree: Path, old: str, new: str) -> None:
    before = fingerprint("recipes.train", root=tree)
    (tree / "recipes/loss.py").write_text(LOSS.replace(old, new))
    assert changes(before, fingerprint("recipes.train", root=tree)) == ["recipes/loss.py"]


def test_a_file_that_is_new_or_gone_is_named(tree: Path) -> None:
    before = fingerprint("recipes.train", root=tree)
    (tree / "recipes/train.py").write_text("import recipes.unused\nfrom recipes.data import rows\n")
    named = ["recipes/loss.py", "recipes/train.py", "recipes/unused.py"]
    assert changes(before, fingerprint("recipes.train", root=tree)) == named


def test_a_file_is_parsed_once_after_a_change(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text, path: parsed.append(path) or parse(text, path))
    first = fingerprint("recipes.train", root=tree)
    assert "recipes/loss.py" in parsed and len(parsed) == len({*parsed})
    parsed.clear()
    assert fingerprint("recipes.train", root=tree) == first and parsed == []
    (tree / "recipes/loss.py").write_text(LOSS + "# more\n")
    assert fingerprint("recipes.train", root=tree) == first and parsed == ["recipes/loss.py"]
    (kept,) = tree.glob(".cache/code-*.json")
    kept.write_text('{"recipes/loss.py": 1}')  # damaged
    assert fingerprint("recipes.train", root=tree) == first


@pytest.mark.parametrize("stage", ["sft", "dpo", "orpo", "reward", "rloo"])
def test_a_recipe_answers_for_the_loop_and_the_engine_but_not_for_the_launcher_or_another_recipe(stage: str) -> None:
    found = fingerprint(f"recipes.{stage}")
    assert {f"recipes/{stage}.py", "recipes/training/loop.py", "recipes/training/model.py"} <= found.keys()
    assert {path.split("/")[0] for path in found} <= {"recipes", "pocket"}
    assert not any(path.startswith("recipes/system/") for path in found)
    others = {f"recipes/{name}.py" for name in ("sft", "dpo", "orpo", "rloo")} - {f"recipes/{stage}.py"}
    assert not others & found.keys(), "a change of one method would be told of another"
