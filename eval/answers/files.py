"""Existing responses: files in their published formats, and the responses of an evaluated stage.

If a row says how its response ended (`stopped`, `tokens`), as ours do, that is reported with every judgment.
"""

from pathlib import Path
from typing import Any

import numpy as np

from eval.answers.store import is_answer
from recipes.config import UserError, read_json, read_json_rows
from recipes.system.commands import output

PROMPT, ANSWER = ("prompt", "instruction"), ("response", "output", "text")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON list or JSONL file of objects, gzipped or not.

    Raises:
        UserError: it is missing or contains something else.
    """
    rows = read_json_rows(path)
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: no rows, or rows that are not objects: give a JSON list or JSONL file of objects")
    return rows


def read_answers(path: Path, kind: str = "greedy") -> dict[str, str]:
    """Return prompt -> response, from a file (`prompt`, `response`; or `instruction`, `output`) or an evaluated stage.

    For a stage, its newest evaluation counts; `kind` is `greedy` or `sampled`. If its held-out pairs repeat a prompt,
    the first response counts.

    Raises:
        UserError: there are none, a column is missing, or a file repeats a prompt.
    """
    return texts(answered(path, kind), path)


def texts(rows: dict[str, dict[str, Any]], path: Path) -> dict[str, str]:
    """Return prompt -> response of a file's or a stage's rows.

    Raises:
        UserError: a row has no response.
    """
    return {prompt: column(row, ANSWER, path) for prompt, row in rows.items()}


def answered(path: Path, kind: str = "greedy", file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return prompt -> row as `read_answers` does, with everything else that a row says about its response.

    Of a stage, they are those in one file of its measurements; without, in the newest.
    """
    rows = stage_rows(path, kind, file) if path.is_dir() else read_rows(path)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        column(row, ANSWER, path)
        found.setdefault(column(row, PROMPT, path), row)
    if len(found) < len(rows) and not path.is_dir():
        raise UserError(f"{path}: {len(rows) - len(found)} prompts are repeated: keep one response to each")
    return found


def endings_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how the responses of rows ended, see `endings`."""
    texts = [next(row[name] for name in ANSWER if isinstance(row.get(name), str)) for row in rows]
    return endings(texts, [row.get("stopped") for row in rows], [row.get("tokens") for row in rows])


def endings(texts: list[str], stopped: list[Any], tokens: list[Any]) -> dict[str, Any]:
    """Return how responses ended and how long they are; None for what not every response says."""
    share = float(np.mean(stopped)) if stopped and None not in stopped else None
    return {
        "stopped": share,
        "cut_off": None if share is None else 1 - share,
        "mean_tokens": float(np.mean(tokens)) if tokens and None not in tokens else None,
        "mean_characters": float(np.mean([len(text) for text in texts])),
    }


def say_endings(name: str, found: dict[str, Any]) -> None:
    """Print stop rate, truncation and length of a side's responses."""
    ends = "the file does not say how they ended"
    if found["stopped"] is not None:
        ends = f"{found['stopped']:.1%} ended with a stop token, {found['cut_off']:.1%} truncated at max_new_tokens"
    tokens = "" if found["mean_tokens"] is None else f"{found['mean_tokens']:.1f} tokens, "
    length = f"mean length {tokens}{found['mean_characters']:.0f} characters"
    output.print(f"  {name}: {ends}; {length}", soft_wrap=True)


def stage_rows(directory: Path, kind: str, file: Path | None = None) -> list[dict[str, Any]]:
    """Return the responses of a stage that `python -m eval` kept, each with the `cluster` of its prompt.

    They are those in one file of its measurements; without, in the newest.

    Raises:
        UserError: it has not been evaluated, or has no responses of this kind.
    """
    files = sorted((directory / "eval").glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for found in map(read_json, [file] if file else files):
        rows = found.get(kind) if isinstance(found, dict) else None
        if isinstance(rows, list) and rows and all(map(is_answer, rows)):
            clusters = found.get("clusters", {}).get("prompts") or range(len(rows))
            return [row | {"cluster": cluster} for row, cluster in zip(rows, clusters, strict=True)]
    raise UserError(f"{directory} has no {kind} responses: evaluate it first with `python -m eval`")


def column(row: dict[str, Any], names: tuple[str, ...], path: Path) -> str:
    """Return the first of the columns `names` that a row has.

    Raises:
        UserError: it has none of them, or the value is not text.
    """
    for name in names:
        if isinstance(row.get(name), str):
            return row[name]
    raise UserError(f"{path}: a row has no text in {' or '.join(names)}; it has {', '.join(row)}")
