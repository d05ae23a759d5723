"""Measurements that other code made: reused, and told."""

from collections.abc import Iterable
from pathlib import Path

from eval.console import console
from recipes.config import read_json
from recipes.system.fingerprint import changes, fingerprint

MEASURE = "eval.results.measure"  # its code decides the figures of a measurement


def tell_stale(paths: Iterable[Path]) -> None:
    """Print a line for each readable measurement that other code made, and one for all that do not say by which."""
    known = {path: read_json(path).get("code") for path in paths}
    unknown = [path for path, code in known.items() if not code]
    for path, code in known.items():
        if code and (changed := changes(code, fingerprint(MEASURE))):
            console.print(
                f"{path.parent.parent} was measured before these changed: {', '.join(changed)}. Move {path.parent} "
                "away to measure it again",
                soft_wrap=True,
            )
    if unknown:
        console.print(f"{len(unknown)} measurements were made by an older version, which did not note its code")
