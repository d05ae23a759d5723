"""The list of what we ask of TRL and Transformers beyond their documentation says what is there, and what tests it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIST = ast.get_docstring(ast.parse((ROOT / "recipes" / "engine" / "trl.py").read_text())) or ""
ENTRIES = re.findall(r"^- (.*?)(?=\n- |\n\n|\Z)", LIST, re.S | re.M)
SOURCES = {path: path.read_text() for path in sorted((ROOT / "recipes").rglob("*.py"))}


def test_each_entry_names_code_that_is_there_and_a_test() -> None:
    assert len(ENTRIES) > 25
    code = "\n".join(SOURCES.values()).replace(LIST, "")
    for entry in ENTRIES:
        for file in re.findall(r"(?:recipes|tests)/[\w/]+\.py", entry):
            assert (ROOT / file).is_file(), entry
        for file, name in re.findall(r"(tests/\w+\.py)::(\w+)", entry):
            assert f"def {name}(" in (ROOT / file).read_text(), entry
        for name in re.findall(r"`([a-z_]\w+)`", entry):
            assert name in code, entry


def test_every_override_of_a_private_method_is_listed() -> None:
    """A class that has a base from outside, in a method of one leading underscore."""
    for path, text in SOURCES.items():
        for of in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.bases):
            names = [item.name for item in of.body if isinstance(item, ast.FunctionDef)]
            private = [name for name in names if re.match(r"_[a-z]", name)]
            missing = [name for name in private if f"`{name}`" not in LIST]
            assert not missing, f"{path.name}: {of.name} has {missing}"


def test_every_private_attribute_of_another_object_is_listed() -> None:
    documented = {"os._exit"}
    for path, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Attribute)
                and ast.unparse(node) not in documented
                and re.match(r"_[a-z]", node.attr)
            ):
                ours = isinstance(node.value, ast.Name) and f"self.{node.attr} =" in text
                assert ours or f"`{node.attr}`" in LIST, f"{path.name}: {ast.unparse(node)}"
