"""The prompts that `make pairs` has a model answer: a file's, or the training prompts of a data set."""

import json
from dataclasses import dataclass
from itertools import chain
from typing import Any

from launch.named.profile import profile_of
from launch.stages.pairs import source
from recipes.config import UserError
from recipes.data.columns import DEMONSTRATED, PROMPTS, SCORES, SIDES, SYSTEMS
from recipes.data.files import files_of, is_local, read_files
from recipes.data.formats import Broken
from recipes.data.messages import Malformed
from recipes.data.schemas import as_tools, read_prompt, with_system
from recipes.profiles import Dataset
from recipes.system.commands import console
from recipes.system.paths import exists

# Columns of a row of prompts that a pair has itself: the prompt's parts, responses, and what those scored.
READ = {*PROMPTS, *SYSTEMS, *SIDES, *DEMONSTRATED, *chain(*SCORES)}


@dataclass(frozen=True)
class Prompt:
    """What is asked, and the other columns of its row."""

    messages: list[dict[str, Any]]
    more: dict[str, Any]


def prompts_of(name: str) -> list[Prompt]:
    """Return the prompts of a file, or the training prompts of a data set, each once.

    Raises:
        UserError: it cannot be read, or has none.
    """
    if not profile_of("dataset", name) and is_local(name) and exists(name):  # a folder may be called like a profile
        rows = list(read_files(files_of(name)))
        found = [prompt for row in rows if (prompt := prompt_of(row))]
        if len(found) < len(rows):
            console.print(f"       {len(rows) - len(found)} of {len(rows)} rows have no readable prompt: left out")
    else:
        from recipes.data.rows import read_rows

        rows = read_rows([source(name, Dataset("", ""))])["train"]
        found = [Prompt(list(turns), {}) for turns in rows["prompt"] if turns]
    distinct = {json.dumps(prompt.messages): prompt for prompt in found}
    if not distinct:
        raise UserError(f"dataset={name} has no prompts: give a column 'prompt', text or messages")
    return list(distinct.values())


def prompt_of(row: dict[str, Any] | Broken) -> Prompt | None:
    """Return a row's prompt with its other columns; None where it has none that a model could answer.

    Raises:
        UserError: tools belong to it.
    """
    if isinstance(row, Broken):
        return None
    column = next((name for name in PROMPTS if row.get(name)), None)
    if column is None:
        return None
    try:
        if as_tools(row.get("tools"))[0]:
            raise UserError("the column 'tools' cannot be used here, where models answer without tools: remove it")
        messages, _ = with_system(read_prompt(row, column), row)
    except Malformed:
        return None
    read = READ | ({"input"} if column == "instruction" else set())
    return Prompt(messages, {name: value for name, value in row.items() if name not in read})
