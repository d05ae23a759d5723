"""How often a model's answers follow each kind of instruction, as a table.

    python -m verifiable.accuracy train-answers.jsonl test-answers.jsonl

The files are those that `make pairs` writes beside its pairs.
"""

import json
import sys
from pathlib import Path

import numpy as np

from verifiable.prompts import known


def accuracies(path: Path) -> dict[str, float]:
    """Return kind -> the mean score of the answers, and that of all kinds."""
    found: dict[str, list[float]] = {}
    for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):  # splitlines splits at more characters
        row = json.loads(line)
        kind = known()[row["prompt"][-1]["content"]].kind
        found.setdefault(kind, []).append(float(np.mean([answer["score"] for answer in row["answers"]])))
    return {kind: float(np.mean(scores)) for kind, scores in sorted(found.items())} | {
        "all": float(np.mean([score for scores in found.values() for score in scores]))
    }


def table(paths: list[Path]) -> str:
    """Return a Markdown table with a row for each kind and a column for each file."""
    columns = [accuracies(path) for path in paths]
    heads = [path.stem.removesuffix("-answers") for path in paths]
    lines = [f"| kind | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    lines += [f"| {kind} | {' | '.join(f'{column[kind]:.0%}' for column in columns)} |" for kind in columns[0]]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([Path(name) for name in sys.argv[1:]]))
