"""The list of what we ask of TRL and Transformers beyond their documentation says what is there, and what tests it."""

import ast
import re
from collections.abc import Iterator
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


# Outside recipes/: what each command asks of a library's private parts. A new entry is a decision.
ELSEWHERE = {
    "dev/bench/measure.py": {"_name_or_path", "_prepare_inputs"},  # stock trainers are measured from the inside
    "dev/faults/__main__.py": {"_exit"},  # documented, in spite of its name: a fault that nothing cleans up
    "eval/answers/benchmarks.py": {"lm_eval.tasks._yaml_loader"},  # the tasks' own files, read as lm-eval reads them
    "launch/executors/slurm.py": {"_make_sbatch_string"},  # a dry run prints what would be submitted
}


def test_no_other_package_uses_more_of_a_librarys_private_parts() -> None:
    packages = ("launch", "eval", "doctor", "paper", "pocket", "verifiable", "dev")
    files = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 150
    found = {str(path.relative_to(ROOT)): set(private(path.read_text())) for path in files}
    assert {path: names for path, names in found.items() if names} == ELSEWHERE


def private(text: str) -> Iterator[str]:
    """Find the private attributes of objects that are not ours, and private names and modules that are imported."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and f"self.{node.attr} =" not in text:
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and re.search(r"(^|\.)_[a-z]", node.module or ""):
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names if re.match(r"_[a-z]", name.name))
