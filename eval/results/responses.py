"""All responses that a table is about, with their prompts, one JSON object per line."""

import json
from collections.abc import Iterator
from typing import Any

from eval.results.row import Row


def responses(rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Yield every response: who gave it to which prompt, how it was decoded, and what it is worth."""
    for row in rows:
        for seed, result in zip(row.seeds, row.results, strict=True):
            who = {"pipeline": row.pipeline, "setting": str(row.setting), "seed": seed}
            further = result.get("further") or [[] for _ in result["sampled"]]
            for greedy, first, others in zip(result["greedy"], result["sampled"], further, strict=True):
                yield {**who, "temperature": 0, **greedy}
                yield from ({**who, "temperature": 1, **response} for response in (first, *others))


def as_lines(rows: list[Row]) -> str:
    """Return the responses as JSONL, those to one prompt together."""
    found = sorted(responses(rows), key=lambda response: response["prompt"])
    return "".join(json.dumps(response, ensure_ascii=False) + "\n" for response in found)
