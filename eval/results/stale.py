"""Measurements made by other code: reused, with a note."""

from collections.abc import Iterable
from pathlib import Path

from recipes.config import read_json
from recipes.system.commands import output
from recipes.system.fingerprint import changes, fingerprint

MEASURE = "eval.results.measure"  # the code behind a measurement's figures


def tell_stale(paths: Iterable[Path]) -> None:
    """Print a line for each readable measurement by other code, and one for all that do not say by which code."""
    known = {path: read_json(path).get("code") for path in paths}
    present = fingerprint(MEASURE)
    unknown = [path for path, code in known.items() if not code]
    for path, code in known.items():
        if code and (changed := changes(code, present)):
            output.print(
                f"{path.parent.parent} was measured before these changed: {', '.join(changed)}; move {path.parent} "
                "away to measure it again",
                soft_wrap=True,
            )
    if unknown:
        output.print(f"{len(unknown)} measurements are from an older version, which did not note its code")
