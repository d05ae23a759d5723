"""Files in the formats of public data sets: ours, written for these tests, and the real ones where they are at hand."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
OURS, REAL = ROOT / "tests" / "data", ROOT.parent / "shared" / "data"


def real(name: str) -> pytest.MarkDecorator:
    """Skip a test where a real file or folder is not at hand."""
    return pytest.mark.skipif(not (REAL / name).exists(), reason=f"the real {name} is not on this machine")


def both(ours: str, theirs: str | None = None) -> list[Any]:
    """The parameters of a test: our file or folder of a name, and the real one, by another name where it has one."""
    theirs = theirs or ours
    return [pytest.param(OURS / ours, id="ours"), pytest.param(REAL / theirs, id="real", marks=real(theirs))]
