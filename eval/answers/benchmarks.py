"""lm-evaluation-harness behind one door: its tasks, what it evaluates, its results. Importing it takes seconds."""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.models import huggingface
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import handle_non_serializable
from transformers import GenerationConfig

from eval.answers.dialogues import Speaker
from eval.answers.files import read_answers, read_rows
from eval.answers.given import GivenAnswers, LeftOut
from recipes.config import UserError

VERSION = version("lm_eval")
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def load(path: Path, batch_size: int) -> LM:
    """Return what lm-eval evaluates: a model with its chat template, or a file of responses."""
    if path.is_file():
        return GivenAnswers(read_answers(path), path)

    speaker = Speaker.load(path)
    # the profile's stop tokens, and none of the model's own generation settings
    ends: Any = speaker.stops
    speaker.model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=speaker.tokenizer.pad_token_id)
    hflm: Any = huggingface.HFLM
    return hflm(pretrained=speaker.model, tokenizer=speaker.tokenizer, backend="causal", batch_size=batch_size)


def find_tasks(names: list[str], data: str | None, directory: str | None) -> tuple[TaskManager, list[Any]]:
    """Return lm-eval's index of tasks with those of a directory, and the named tasks; one of them may have `data`.

    Raises:
        UserError: a task does not exist, or `data=` does not go with it.
    """
    own: list[str | Path] = [directory] if directory else []
    library = Path(lm_eval.tasks.__file__).parent
    likely = [library / task for task in names if (library / task).is_dir()]
    known = TaskManager(include_path=[*own, *likely], include_defaults=False)
    if not {*names} <= {*known.all_tasks}:
        known = TaskManager(include_path=own)  # reads some 14,000 files and takes seconds
    unknown = [task for task in names if task not in known.all_tasks]
    if unknown:
        raise UserError(f"tasks={unknown[0]}: lm-eval {VERSION} has no such task: `lm-eval ls tasks` lists them")
    if data is None:
        return known, list(names)
    if len(names) > 1 or not Path(data).is_file():
        raise UserError(f"data={data}: name exactly one task in tasks=, whose rows this file has")
    read_rows(Path(data))
    return known, [local(known, names[0], Path(data))]


def local(known: TaskManager, task: str, data: Path) -> dict[str, Any]:
    """Return lm-eval's own definition of a task, with the rows of a file.

    Raises:
        UserError: the task is a group, or has no rows of its own.
    """
    file = known.task_index[task].yaml_path
    config = load_yaml(file) if file else {}
    splits = [config[name] for name in SPLITS if config.get(name)]
    if not splits:
        raise UserError(f"data=: {task} is not a single task with its own rows: name one")
    files = {split: str(data.absolute()) for split in splits}
    return config | {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}


def measure(
    known: TaskManager, tasks: list[Any], model: LM, chat: bool, limit: int | None, **asked: Any
) -> dict[str, Any]:
    """Return lm-eval's results; if given responses leave prompts out, those of the others, with `left_out`."""
    ask: Any = partial(
        simple_evaluate,
        model=model,
        tasks=tasks,
        task_manager=known,
        apply_chat_template=chat and not isinstance(model, GivenAnswers),
        **asked,
    )
    try:
        return ask(limit=limit)
    except LeftOut as some:
        return ask(samples=some.answered) | {"left_out": some.account}


def text_of(found: dict[str, Any]) -> str:
    """Return lm-eval's results as JSON, as lm-eval writes them."""
    return json.dumps(found, indent=1, ensure_ascii=False, default=handle_non_serializable) + "\n"
