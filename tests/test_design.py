"""docs/design.md shows the tree as it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("recipes", "launch", "eval", "doctor", "paper", "pocket", "dev")


def named() -> list[Path]:
    """The files and folders of the tree: names up to the first gap of two spaces, in the folder above their indent."""
    tree = re.search(r"```text\n(.*?)```", (ROOT / "docs" / "design.md").read_text(), re.S)
    assert tree, "docs/design.md has no tree"
    found: list[Path] = []
    above = [ROOT]
    for line in tree.group(1).splitlines():
        entry = re.match(r"((?:  )*)(\S+(?: \S+)*)(?:  |$)", line)
        if not entry or len(entry.group(1)) > 2 * len(above) - 2:  # a description's second line is indented further
            continue
        del above[len(entry.group(1)) // 2 + 1 :]
        paths = [above[-1] / name for name in entry.group(2).split()]
        found += paths
        if entry.group(2).endswith("/"):
            above.append(paths[-1])
    return found


def test_everything_in_the_tree_exists() -> None:
    assert [str(path.relative_to(ROOT)) for path in named() if not path.exists()] == []


def test_every_file_of_a_package_is_in_the_tree() -> None:
    """By its name, or by that of its folder where the tree shows none of the folder's files."""
    files = {path for package in PACKAGES for path in (ROOT / package).rglob("*.*")}
    files = {path for path in files if path.name != "__init__.py" and "__pycache__" not in path.parts}
    assert len(files) > 200
    tree = set(named())
    whole = tree - {path.parent for path in tree}
    unnamed = {path for path in files if path not in tree and path.parent not in whole}
    assert sorted(str(path.relative_to(ROOT)) for path in unnamed) == []
