"""One tokenisation: pairs are rendered and tokenised once; SFT, DPO and ORPO train on views of the same ids.

`prepare` writes a directory of rows with `prompt_ids`, `chosen_ids` and `rejected_ids` (int lists), named
by all that goes into it, so that a sweep tokenises nothing again. Rows that a method could not train on
are dropped here, counted and named, before any trainer sees them: the same for every method.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset as Rows
from datasets import DatasetDict, disable_caching, disable_progress_bars, load_from_disk
from transformers import PreTrainedTokenizerBase

from recipes.config import Dataset, Model, UserError, write_json
from recipes.pairs import Malformed, Unusable, read_pair
from recipes.sources import load_source

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def load_pairs(directory: Path) -> DatasetDict:
    """Return the prepared ids, splits `train` and `test`; training rows with `row`, their number in the source."""
    disable_progress_bars()
    disable_caching()  # the views are made in a second; cached they would fill the shared directory
    rows = load_from_disk(str(directory))
    assert isinstance(rows, DatasetDict)
    columns = {"train": ["row", *IDS], "test": [*IDS]}
    return DatasetDict({split: rows[split].select_columns(columns[split]) for split in columns})  # type: ignore[arg-type]


def demonstrations(rows: DatasetDict) -> DatasetDict:
    """Return SFT's view of the pairs: prompt and chosen answer, with TRL's mask of the completion."""

    def view(row: dict[str, Any]) -> dict[str, Any]:
        prompt, chosen = row["prompt_ids"], row["chosen_ids"]
        return {"input_ids": prompt + chosen, "completion_mask": [0] * len(prompt) + [1] * len(chosen)}

    return rows.map(view, remove_columns=list(IDS))


def dialogues(row: dict[str, Any]) -> dict[str, Any]:
    """Return stock ORPO's view of a pair: both whole dialogues under TRL's names; its labels cover the answers."""
    prompt = row["prompt_ids"]
    columns = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for answer in ("chosen", "rejected"):
        ids = row[f"{answer}_ids"]
        columns[f"{answer}_input_ids"] = prompt + ids
        columns[f"{answer}_attention_mask"] = [1] * len(prompt + ids)
        columns[f"{answer}_labels"] = [-100] * len(prompt) + ids
    return columns


def prepare(
    dataset: Dataset, model: Model, tokenizer: PreTrainedTokenizerBase, directory: Path, say: Callable[[str], None]
) -> None:
    """Read, check, render and tokenise `dataset` into `directory`, whole or not at all.

    Beside the rows it writes `manifest.json`: counts, tokens, what was dropped and why (with the first
    row numbers), and a fingerprint of the ids.

    Raises:
        UserError: the data cannot be read, a row is malformed, or nothing is left to train on.
    """
    kept: dict[str, Rows] = {}
    dropped: dict[str, dict[str, list[int]]] = {}
    render = Renderer(tokenizer, model)
    for split, source in read_source(dataset).items():
        say(f"tokenising {len(source):,} {split} pairs")
        rows = source.map(render, batched=True, fn_kwargs={"max_length": dataset.max_length})
        kept[split], dropped[split] = drop(rows, rows["problem"])
    kept = hold_out(kept, dataset.test_fraction)
    heard = set(kept["test"]["prompt_text"])
    leaks = ["its prompt is in the test split too" if text in heard else "" for text in kept["train"]["prompt_text"]]
    kept["train"], leaked = drop(kept["train"], leaks)
    dropped["train"] |= leaked
    for split, limit in (("train", dataset.train_rows), ("test", dataset.test_rows)):
        count = len(kept[split]) if limit is None else min(len(kept[split]), limit)
        kept[split] = kept[split].select(range(count))
        if count < 2:
            raise UserError(
                f"{dataset.path}: {count} pairs are left in the {split} split, two are the least; {reasons(dropped)} "
                "(see dataset.test_fraction, train_rows, test_rows)"
            )
    store({split: rows.remove_columns("problem").flatten_indices() for split, rows in kept.items()}, dropped, directory)


def read_source(dataset: Dataset) -> dict[str, Rows]:
    """Return the source's rows as pairs: `row`, `prompt`, `chosen`, `rejected`, and `problem` where there is one.

    Raises:
        UserError: the data cannot be read, or a row is malformed.
    """
    disable_progress_bars()
    rows = {}
    for split, source in load_source(dataset).items():
        place = f"{dataset.test_path or dataset.path if split == 'test' else dataset.path}, {split} row"
        rows[split] = source.map(
            as_columns, with_indices=True, remove_columns=source.column_names, fn_kwargs={"place": place}
        )
    return rows


def as_columns(row: dict[str, Any], number: int, place: str) -> dict[str, Any]:
    """Return a source row as a pair's columns; `problem` is empty for a row that can be trained on."""
    try:
        pair = read_pair(row)
    except Unusable as reason:
        return {"row": number, "prompt": [], "chosen": "", "rejected": "", "problem": str(reason)}
    except Malformed as error:
        raise UserError(f"{place} {number + 1} {error}") from None
    return {"row": number, "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "problem": ""}


class Renderer:
    """Renders pairs through the chat template, and tokenises them with exact borders."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: Model) -> None:
        self.tokenizer = tokenizer
        self.name = model.name
        self.stops = stop_ids(tokenizer, model)
        self.bos: Any = tokenizer.bos_token_id if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else None

    def __call__(self, columns: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        """Add the ids of a batch of pairs, and `problem` to those that do not fit `max_length` tokens."""
        usable = [not problem for problem in columns["problem"]]
        prompts, texts = self.render(columns, usable)
        prompt_ids = self.encode(prompts)
        result: dict[str, list[Any]] = {"prompt_text": prompts, "prompt_ids": [self.begin(ids) for ids in prompt_ids]}
        for answer in ("chosen", "rejected"):
            result[f"{answer}_ids"] = [
                self.answer_ids(text, prompt, ids, full) if ok else []
                for ok, text, prompt, ids, full in zip(
                    usable, texts[answer], prompts, prompt_ids, self.encode(texts[answer]), strict=True
                )
            ]
        lengths = zip(*(map(len, result[column]) for column in IDS), strict=True)
        result["problem"] = [
            problem or ("longer than dataset.max_length" if prompt + max(chosen, rejected) > max_length else "")
            for problem, (prompt, chosen, rejected) in zip(columns["problem"], lengths, strict=True)
        ]
        return result

    def render(self, columns: dict[str, list[Any]], usable: list[bool]) -> tuple[list[str], dict[str, list[str]]]:
        """Return the texts of the prompts, and of the dialogues with each answer."""
        prompts = [
            self.template(prompt, True) if ok else "" for ok, prompt in zip(usable, columns["prompt"], strict=True)
        ]
        texts: dict[str, list[str]] = {}
        for answer in ("chosen", "rejected"):
            turns = [[{"role": "assistant", "content": content}] for content in columns[answer]]
            texts[answer] = [
                self.template(prompt + turn, False) if ok else ""
                for ok, prompt, turn in zip(usable, columns["prompt"], turns, strict=True)
            ]
        return prompts, texts

    def template(self, messages: list[dict[str, str]], generation: bool) -> str:
        """Return messages as the model reads them; with `generation`, up to where its answer begins."""
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        except Exception as error:  # jinja raises what the template's author chose
            raise UserError(f"the chat template of {self.name} refuses a dialogue: {error}") from None
        assert isinstance(text, str)
        return text

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of rendered texts, which carry their special tokens themselves."""
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]

    def begin(self, ids: list[int]) -> list[int]:
        """Put one BOS before a prompt whose template prints none, where the tokenizer would."""
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    def answer_ids(self, text: str, prompt: str, prompt_ids: list[int], full_ids: list[int]) -> list[int]:
        """Return the ids after the prompt, up to and with one stop token.

        Where tokens would merge across the border the answer is tokenised by itself: the model must
        be trained on the very prompt ids that it will be given when it answers.
        """
        if not text.startswith(prompt):
            raise UserError(f"the chat template of {self.name} renders a prompt differently once it is answered")
        if full_ids[: len(prompt_ids)] == prompt_ids:
            ids = full_ids[len(prompt_ids) :]
        else:
            ids = self.encode([text[len(prompt) :]])[0]
        return self.end(ids)

    def end(self, ids: list[int]) -> list[int]:
        """Cut what a template prints after the turn's stop token (a newline), or add the one it lacks."""
        for index in range(len(ids) - 1, max(len(ids) - 4, -1), -1):
            if ids[index] in self.stops:
                return ids[: index + 1]
        return ids + self.stops[:1]


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: Model) -> list[int]:
    """Return the ids of the model's stop tokens, the end of a turn first.

    Raises:
        UserError: a name is no single token of this tokenizer, or the model has no stop token at all.
    """
    tokens = model.stop_tokens or [str(tokenizer.eos_token)]
    known = tokenizer.get_vocab()
    for token in tokens:
        if token not in known:
            raise UserError(f"{token!r} is no token of {model.name}'s tokenizer: set model.stop_tokens")
    return [known[token] for token in tokens]


def drop(rows: Rows, problems: list[str]) -> tuple[Rows, dict[str, list[int]]]:
    """Split rows into those without a problem, and the row numbers (from 1) by problem."""
    numbers: dict[str, list[int]] = {}
    for number, problem in zip(rows["row"], problems, strict=True):
        if problem:
            numbers.setdefault(problem, []).append(number + 1)
    return rows.select([index for index, problem in enumerate(problems) if not problem]), numbers


def hold_out(kept: dict[str, Rows], fraction: float) -> dict[str, Rows]:
    """Where the source has no test split, hold out a share of the *prompts*, the same in every run."""
    if "test" in kept:
        return kept
    share = [
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        for text in kept["train"]["prompt_text"]
    ]
    tested = [index for index, place in enumerate(share) if place < fraction]
    trained = [index for index, place in enumerate(share) if place >= fraction]
    return {"train": kept["train"].select(trained), "test": kept["train"].select(tested)}


def store(rows: dict[str, Rows], dropped: dict[str, dict[str, list[int]]], directory: Path) -> None:
    """Write rows and manifest to a temporary name, then rename: two at once are harmless."""
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    DatasetDict(rows).save_to_disk(str(temporary))  # type: ignore[arg-type]
    manifest = {
        "fingerprint": fingerprint(rows),
        "pairs": {split: len(part) for split, part in rows.items()},
        "tokens": {split: {column: sum(map(len, part[column])) for column in IDS} for split, part in rows.items()},
        "dropped": {
            split: {problem: {"count": len(numbers), "rows": numbers[:3]} for problem, numbers in problems.items()}
            for split, problems in dropped.items()
        },
    }
    write_json(temporary / "manifest.json", manifest)
    try:
        temporary.rename(directory)
    except OSError:  # another process was faster, with the same content
        shutil.rmtree(temporary)


def fingerprint(rows: dict[str, Rows]) -> str:
    """Return a digest over all ids of both splits, in order."""
    digest = hashlib.sha256()
    for split in sorted(rows):
        for column in IDS:
            for ids in rows[split].with_format("numpy")[column]:
                digest.update(np.asarray(ids, dtype=np.int64).tobytes() + b"|")
    return digest.hexdigest()[:16]


def reasons(dropped: dict[str, dict[str, list[int]]]) -> str:
    """Say in one line what was dropped and why."""
    counts: Counter[str] = Counter()
    for problems in dropped.values():
        counts.update({problem: len(numbers) for problem, numbers in problems.items()})
    return "dropped: " + (", ".join(f"{count} ({problem})" for problem, count in counts.most_common()) or "none")
