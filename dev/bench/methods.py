"""Measure every packed method beside TRL's trainer, in turns: python -m dev.bench.methods [--repeats 5].

It writes docs/methods-speed.json; `make parity` shows it in docs/parity.md.
"""

import argparse
from statistics import median
from typing import Any

from dev.bench.measure import Case, measure
from dev.bench.report import environment
from dev.bench.suite import ENGINES, alone
from dev.bench.workload import pairs_of
from recipes.config import write_json
from recipes.methods import METHODS, PACKED
from recipes.system.commands import output as console
from recipes.system.paths import ROOT

MODEL, LENGTHS, LONGEST = "21m", "hh-rlhf", 1024


def speeds(method: str, repeats: int, batch_size: int) -> dict[str, Any]:
    """Return each engine's pairs per second in every repetition; both train on the same pairs, one after the other."""
    pairs = pairs_of(LENGTHS, repeats * batch_size, LONGEST, MODEL, None, None)
    found: dict[str, Any] = {engine: [] for engine in ENGINES}
    for repeat in range(repeats):
        own = pairs[repeat * batch_size : (repeat + 1) * batch_size]
        for engine in ENGINES:
            case = Case(MODEL, LENGTHS, "full", batch_size, engine, method=method)
            found[engine].append(alone(measure, case, own)["pairs_per_second"])
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16, help="pairs of a micro-batch, one optimizer step")
    given = parser.parse_args()
    machine: dict[str, Any] = alone(environment)
    results: dict[str, Any] = {"machine": machine, "model": MODEL, "lengths": LENGTHS, "options": vars(given)}
    results["methods"] = {}
    for method in PACKED:
        found = speeds(method, given.repeats, given.batch_size)
        results["methods"][method] = found
        stock, packed = (median(found[engine]) for engine in ENGINES)
        said = f"{packed:.2f} pairs/s packed, {stock:.2f} stock: {packed / stock:.2f} times as fast"
        console.print(f"{METHODS[method].label}: {said}", soft_wrap=True)
        write_json(ROOT / "docs" / "methods-speed.json", results)  # each as it comes


if __name__ == "__main__":
    main()
