"""Rows and files as people have them, prepared as training does: what is read of them, as text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset as Rows
from datasets import load_from_disk

from launch.stages.pairs import describe_rows
from recipes.config import UserError, read_json
from recipes.data.prepare import prepare
from recipes.profiles import Dataset, Model
from recipes.training.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
STOP, PAD = "<|im_end|>", "<|pad|>"
CHATML = (ROOT / "conf" / "chat_template" / "chatml.jinja").read_text()


def turn(content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return turn(content, "assistant", **fields)


def row(prompt: Any, chosen: Any, rejected: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


ROWS = [row(f"Question {number}?", f"Answer {number}.", f"Nothing {number}!") for number in range(8)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        Rows.from_list(rows).to_parquet(str(path))
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Trained:
    """Prepared pairs: what a model reads and is trained to respond, as text, by source row."""

    def __init__(self, directory: Path, tokenizer: Any) -> None:
        splits: Any = load_from_disk(str(directory))
        self.manifest = read_json(directory / "manifest.json")
        self.line = describe_rows(directory)
        self.counts: dict[str, int] = self.manifest["pairs"]
        self.rows = {
            found["row"]: tuple(tokenizer.decode(found[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected"))
            for split in splits.values()
            for found in split
        }
        self.prompt, self.chosen, self.rejected = self.rows.get(0, ("", "", ""))


def trainer(tiny_model: Path, tmp_path: Path) -> Callable[..., Trained]:
    """Prepare rows, with eight ordinary ones after them, or a path, as training does; under any chat template."""

    def make(rows: Any, template: str = CHATML, **options: Any) -> Trained:
        model = Model("tiny", str(tiny_model), chat_template=template, stop_tokens=[STOP], pad_token=PAD)
        path = rows if isinstance(rows, (str, Path)) else write(tmp_path / "rows.jsonl", [*rows, *ROWS])
        directory = tmp_path / f"pairs-{len(list(tmp_path.glob('pairs-*')))}"
        tokenizer = load_tokenizer(model, str(tiny_model))
        lines: list[str] = []
        prepare(Dataset("file", str(path), **options), model, tokenizer, directory, lines.append)
        found = Trained(directory, tokenizer)
        found.line = "\n".join([*lines, found.line])
        return found

    return make


def refused(train: Callable[..., Trained], rows: Any, *said: str, **options: Any) -> None:
    with pytest.raises(UserError) as error:
        train(rows, **options)
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value), error.value
