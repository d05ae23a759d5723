"""Read, render, tokenize and examine a data set: every row with its ids, and every finding with its rows."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset as Rows
from datasets import Features, List, Value, disable_caching, disable_progress_bars

from pocket.world import TEST_PROMPTS
from recipes.data.chat import Refused, Renderer
from recipes.data.columns import IDS, SIDES
from recipes.data.fields import Dialogue, render_fields, unwritten
from recipes.data.findings import (
    MARKS,
    Evaluated,
    Findings,
    evaluation_prompts,
    lost,
    near_duplicates,
    repeated,
    unfinished,
    wanted,
)
from recipes.data.messages import out_of_order
from recipes.data.rows import read_rows
from recipes.data.unpaired import apart, called, unpaired
from recipes.data.values import column, where
from recipes.profiles import KEEP, TEST, TRUNCATE, VALIDATION, Dataset, Model

ADDED: Any = {"lost": Value("bool"), "long": Value("int64"), **dict.fromkeys(IDS, List(Value("int64")))}
Texts = tuple[str, ...]  # of a prompt, and of the dialogue with each response
ROWS_PER_PROCESS = 5000  # fewer are tokenized before another process would have started


@dataclass
class Split:
    """One split's rows, with ids, and their findings, which hold indices into `rows`."""

    rows: Rows
    findings: Findings

    def select(self, indices: list[int]) -> "Split":
        """Return the split with only these rows."""
        places = {index: place for place, index in enumerate(indices)}
        kept = Findings()
        for finding, rows in self.findings.rows.items():
            kept.add(finding, (places[index] for index in rows if index in places))
        return Split(self.rows.select(indices), kept)


def examine(
    dataset: Dataset,
    parts: Sequence[Dataset],
    model: Model,
    tokenizer: Any,
    say: Callable[[str], None],
    thorough: bool = False,
    demonstrations: bool = False,
) -> dict[str, Split]:
    """Return split `train`, and `test` and `validation` where the source has them.

    Where the policies keep responses without a partner, each has a split of them beside it, see `unpaired`. `parts`
    are a mixture's sources, or `dataset` alone. Slow searches run only if the policies need them, or all of them if
    `thorough`.

    Raises:
        UserError: the data cannot be read at all.
    """
    disable_progress_bars()
    disable_caching()  # we cache by content; their cache would only fill the disk
    render = Renderer(tokenizer, model)
    splits = {}
    found = read_rows(parts, demonstrations)
    for split, rows in (apart(found) if dataset.policies.alone == KEEP else found).items():
        say(f"tokenising {len(rows):,} {'demonstrations' if demonstrations else called(split)}")
        features = Features({**rows.features, **ADDED})  # else the first rows would say what an empty list holds
        processes = min(len(os.sched_getaffinity(0)), len(rows) // ROWS_PER_PROCESS) or None
        rendered = rows.map(Tokenise(render, dataset), batched=True, features=features, num_proc=processes)
        if not len(rows):  # then `map` adds no columns
            rendered = Rows.from_dict({name: [] for name in features}, features)
        if thorough:
            say(f"searching {len(rows):,} {called(split)} for near-duplicates and evaluation prompts")
        splits[split] = Split(rendered, find(rendered, dataset, thorough))
    heard: set[str] = set()
    for split in (TEST, VALIDATION, "train"):
        both = [splits[name] for name in (split, unpaired(split)) if name in splits]
        for one in both if heard else ():
            one.findings.add("leak", where(key in heard for key in column(one.rows, "key")))
        heard |= {key for one in both for key in column(one.rows, "key") if key}  # rows without a prompt have none
    return splits


class Tokenise:
    """Adds ids to a batch of rows, truncated to `max_length` if the policy says so."""

    def __init__(self, render: Renderer, dataset: Dataset) -> None:
        self.render = render
        self.limit = dataset.max_length
        self.overlong = dataset.policies.overlong

    def __call__(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the added columns: ids, updated `problem`, `detail` and `ignored`, `lost` (a system turn), `long`."""
        count = len(columns["problem"])
        columns = dict.fromkeys(("side", "extra", "ignored"), [""] * count) | dict(columns)
        blank = {"lost": False, "long": 0, **{name: [] for name in IDS}}
        kept = ("problem", "detail", "ignored")
        rows = [blank | {name: columns[name][index] for name in kept} for index in range(count)]
        fine = where(not problem for problem in columns["problem"])
        for side in dict.fromkeys(columns["side"]):
            asked = [index for index in fine if columns["side"][index] == side]
            self.fill(rows, columns, asked, (side,) if side else SIDES)
        return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}

    def fill(
        self, rows: list[dict[str, Any]], columns: dict[str, list[Any]], asked: list[int], sides: Sequence[str]
    ) -> None:
        """Tokenize the rows at some indices, which have the responses `sides`."""
        texts, refused, left = self.texts(columns, asked, sides)
        prompt_ids = self.render.encode([prompt for prompt, *_ in texts.values()])
        prompts, *answered = zip(*texts.values(), strict=True) if texts else ([], [], [])
        answers = [self.render.answers(list(answer), list(prompts)) for answer in answered]
        for index, reason in refused.items():
            rows[index] |= {"problem": "unrendered", "detail": reason}
        for index, prompt, *ids in zip(texts, prompts, prompt_ids, *answers, strict=True):
            ids[0] = self.render.begin(ids[0])
            rows[index]["ignored"] = "; ".join(filter(None, [rows[index]["ignored"], *left[index]]))
            rows[index]["lost"] = lost(columns["prompt"][index], prompt)
            rows[index]["long"] = len(ids[0]) + max(map(len, ids[1:]))
            names = (IDS[0], *(f"{side}_ids" for side in sides))
            rows[index] |= zip(names, self.fit(*ids), strict=True)

    def texts(
        self, columns: dict[str, list[Any]], indices: list[int], sides: Sequence[str]
    ) -> tuple[dict[int, Texts], dict[int, str], dict[int, list[str]]]:
        """Return row -> its texts, why it has none, and what of the row they lack."""
        texts, refused = self.plain(columns, [index for index in indices if not columns["extra"][index]], sides)
        left: dict[int, list[str]] = {}
        for index in indices:
            prompt, extra = columns["prompt"][index], columns["extra"][index]
            answers: dict[str, str] = {side: columns[side][index] for side in sides}
            try:
                if extra:
                    texts[index], left[index] = render_fields(Dialogue.of(prompt, answers, extra), self.render)
                if index in texts:
                    left[index] = left.get(index, []) + unwritten(prompt, answers, texts[index])
            except Refused as error:
                texts.pop(index, None)
                refused[index] = str(error)
        return texts, refused, left

    def plain(
        self, columns: dict[str, list[Any]], indices: list[int], sides: Sequence[str]
    ) -> tuple[dict[int, Texts], dict[int, str]]:
        """Return the texts of rows that have roles and texts alone, rendered together, and why others have none."""
        dialogues = [
            [columns["prompt"][index] for index in indices],
            *([answered(columns, index, name) for index in indices] for name in sides),
        ]
        try:
            texts = [self.render.texts(part, answer=place > 0) for place, part in enumerate(dialogues)]
            return dict(zip(indices, zip(*texts, strict=True), strict=True)), {}
        except Refused as error:
            if len(indices) == 1:
                return {}, {indices[0]: str(error)}
        found: dict[int, Texts] = {}
        refused: dict[int, str] = {}
        for index in indices:  # one of many is rejected: find which
            one, why = self.plain(columns, [index], sides)
            found |= one
            refused |= why
        return found, refused

    def fit(self, prompt: list[int], *answers: list[int]) -> tuple[list[int], ...]:
        """Truncate a row to the limit by policy: the prompt's beginning, or each response's end except its stop."""
        if self.overlong == TRUNCATE[0]:
            room = max(0, self.limit - max(map(len, answers)))
            bos = prompt[:1] if prompt[:1] == [self.render.tokenizer.bos_token_id] else []  # whatever its origin
            if len(prompt) > room > len(bos):
                prompt = bos + prompt[len(prompt) - room + len(bos) :]
        elif self.overlong == TRUNCATE[1]:
            room = self.limit - len(prompt)
            if room > 1:
                return prompt, *(ids if len(ids) <= room else ids[: room - 1] + ids[-1:] for ids in answers)
        return prompt, *answers


def answered(columns: dict[str, list[Any]], index: int, name: str) -> list[dict[str, str]]:
    """Return one row's dialogue with one of its responses."""
    return [*columns["prompt"][index], {"role": "assistant", "content": columns[name][index]}]


def find(rows: Rows, dataset: Dataset, thorough: bool) -> Findings:
    """Return the findings in one split."""
    found = Findings()
    for finding in ("malformed", "unrendered", "diverging", "empty", "identical", "undecided", "alone"):
        found.add(finding, where(problem == finding for problem in column(rows, "problem")))
    fine = where(not problem for problem in column(rows, "problem"))
    usable = rows.select(fine)
    prompts, (chosen, rejected) = [*column(usable, "prompt")], (responses(usable, side) for side in SIDES)

    def add(finding: str, indices: Sequence[int]) -> None:
        found.add(finding, (fine[index] for index in indices))

    sizes = [tuple(map(len, ids)) for ids in zip(*(column(usable, name) for name in IDS), strict=True)]
    add("overlong", where(length > dataset.max_length for length in column(usable, "long")))
    if dataset.policies.overlong in TRUNCATE:
        add("unfit", where(prompt + max(answers) > dataset.max_length for prompt, *answers in sizes))
    add(
        "identical",
        where(chosen == rejected for chosen, rejected in zip(*(column(usable, name) for name in IDS[1:]), strict=True)),
    )
    add(
        "tied",
        where(tied and not side for tied, side in zip(column(usable, "tied"), column(usable, "side"), strict=True)),
    )
    add("system_lost", where(column(usable, "lost")))
    add("ignored", where(column(usable, "ignored")))
    texts = zip(prompts, chosen, rejected, strict=True)
    add("rendered", where(MARKS.search(" ".join([said(turns), *answers])) for turns, *answers in texts))
    add("role_order", where(map(out_of_order, prompts)))
    add("unfinished", where(unfinished(one) or unfinished(other) for one, other in zip(chosen, rejected, strict=True)))
    for finding, indices in repeated([*column(usable, "key")], chosen, rejected).items():
        add(finding, indices)
    if thorough or wanted(dataset.policies, "near_duplicate"):
        texts = zip(prompts, chosen, rejected, strict=True)
        add("near_duplicate", near_duplicates([" ".join([said(turns), *answers]) for turns, *answers in texts]))
    if thorough or wanted(dataset.policies, "contaminated"):
        ours = [] if dataset.path == "pocket" else TEST_PROMPTS
        evaluated = Evaluated(evaluation_prompts(dataset.evaluation_prompts) + ours)
        add("contaminated", where(any(map(evaluated.has, questions(turns))) for turns in prompts))
    return found


def responses(rows: Rows, side: str) -> list[str]:
    """Return what each row's response says and, as JSON, what it calls."""
    fields = [json.loads(extra).get(side) if extra else None for extra in column(rows, "extra")]
    return [text + (json.dumps(more) if more else "") for text, more in zip(column(rows, side), fields, strict=True)]


def said(turns: list[dict[str, str]]) -> str:
    """Return a dialogue's text."""
    return " ".join(turn["content"] for turn in turns)


def questions(turns: list[dict[str, str]]) -> list[str]:
    """Return the user's turns."""
    return [turn["content"] for turn in turns if turn["role"] == "user"]
