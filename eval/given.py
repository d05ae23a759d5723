"""Answers that already exist: files in the formats they are published in, and what an evaluated stage answered."""

import gzip
import json
from pathlib import Path
from typing import Any

from recipes.config import UserError, read_json

PROMPT, ANSWER = ("prompt", "instruction"), ("response", "output", "text")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON list or JSONL file, gzipped or not.

    Raises:
        UserError: it is missing or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode()
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.splitlines() if x]
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): give a JSON list or JSONL file, also .gz") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: no rows, or rows that are no objects: give a JSON list or JSONL file of objects")
    return rows


def read_answers(path: Path, kind: str = "greedy") -> dict[str, str]:
    """Return prompt -> answer, of a file (`prompt`, `response`; or `instruction`, `output`) or an evaluated stage.

    Of a stage, the newest of its evaluations counts; `kind` is `greedy` or `sampled`. Where its held-out pairs ask
    the same twice, the first answer is taken.

    Raises:
        UserError: there are none, a column is missing, or a prompt of a file occurs twice.
    """
    rows = stage_rows(path, kind) if path.is_dir() else read_rows(path)
    answers: dict[str, str] = {}
    for row in rows:
        answers.setdefault(column(row, PROMPT, path), column(row, ANSWER, path))
    if len(answers) < len(rows) and not path.is_dir():
        raise UserError(f"{path}: {len(rows) - len(answers)} prompts occur again: keep one answer to each")
    return answers


def stage_rows(directory: Path, kind: str) -> list[dict[str, Any]]:
    """Return the answers that `python -m eval` kept of a stage.

    Raises:
        UserError: it has not been evaluated, or kept no answers of this kind.
    """
    for file in sorted((directory / "eval").glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        found = read_json(file)
        if isinstance(found, dict) and isinstance(found.get(kind), list):
            return found[kind]
    raise UserError(f"{directory} has no {kind} answers: evaluate it first with `python -m eval`")


def column(row: dict[str, Any], names: tuple[str, ...], path: Path) -> str:
    """Return the first of the columns `names` that a row has.

    Raises:
        UserError: it has none of them, or no text there.
    """
    for name in names:
        if isinstance(row.get(name), str):
            return row[name]
    raise UserError(f"{path}: a row has no text in {' or '.join(names)}; it has {', '.join(row)}")
