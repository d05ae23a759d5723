"""Benchmarks of lm-evaluation-harness (IFEval, MMLU, GSM8K, ARC, TruthfulQA, …) on a model or on given responses.

    python -m eval.harness [STAGE …] tasks=ifeval,arc_challenge [data=FILE] [limit=…]

STAGE is a stage, a session, any model directory, or a file of responses (`prompt`, `response`) to generation tasks,
which is scored as it is (prompts without a response are left out, and counted); by default the newest session. The
model uses its profile's chat template (`chat=false`: none) and stops at its stop tokens. lm-eval's JSON, samples
included, is kept unchanged under `eval/` of the stage. `data=FILE` gives the rows of the one named task, in the format
of its data set, if the Hub cannot be reached; `tasks_dir=` has your own tasks as lm-eval's YAML.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import handle_non_serializable

from eval.answers.files import endings, read_answers, read_rows, say_endings
from eval.answers.given import GivenAnswers, LeftOut
from eval.answers.judging import digest
from eval.commands.cli import models, run
from eval.results.sentences import seeded_language_detection, sentence_model
from recipes.config import UserError, read_json, write_text
from recipes.system.commands import output

VERSION = version("lm_eval")
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass
class Options:
    """The options of the command line; with lm-eval's names where it has one."""

    tasks: str = "???"
    limit: int | None = None  # the first n rows of each task
    num_fewshot: int | None = None  # null: the task's own
    gen_kwargs: str | None = None  # instead of the task's own, such as gen_kwargs=max_gen_toks=512
    batch_size: int = 8
    chat: bool = True
    data: str | None = None
    tasks_dir: str | None = None


def load(path: Path, options: Options) -> LM:
    """Return what lm-eval evaluates: a model with its chat template, or a file of responses."""
    if path.is_file():
        return GivenAnswers(read_answers(path), path)
    from lm_eval.models import huggingface
    from transformers import GenerationConfig

    from eval.answers.dialogues import Speaker

    speaker = Speaker.load(path)
    # the profile's stop tokens, and none of the model's own generation settings
    ends: Any = speaker.stops
    speaker.model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=speaker.tokenizer.pad_token_id)
    hflm: Any = huggingface.HFLM
    return hflm(pretrained=speaker.model, tokenizer=speaker.tokenizer, backend="causal", batch_size=options.batch_size)


def wanted(options: Options) -> tuple[TaskManager, list[Any]]:
    """Return lm-eval's index of tasks with the user's own, and the tasks to evaluate.

    Raises:
        UserError: a task does not exist, or `data=` does not go with it.
    """
    tasks: list[Any] = options.tasks.split(",")
    own: list[str | Path] = [options.tasks_dir] if options.tasks_dir else []
    library = Path(lm_eval.tasks.__file__).parent
    likely = [library / task for task in tasks if (library / task).is_dir()]
    known = TaskManager(include_path=[*own, *likely], include_defaults=False)
    if not {*tasks} <= {*known.all_tasks}:
        known = TaskManager(include_path=own)  # reads some 14,000 files and takes seconds
    unknown = [task for task in tasks if task not in known.all_tasks]
    if unknown:
        raise UserError(f"tasks={unknown[0]}: lm-eval {VERSION} has no such task: `lm-eval ls tasks` lists them")
    if options.data:
        if len(tasks) > 1 or not Path(options.data).is_file():
            raise UserError(f"data={options.data}: name exactly one task in tasks=, whose rows this file has")
        read_rows(Path(options.data))
        tasks = [local(known, tasks[0], Path(options.data))]
    return known, tasks


def local(known: TaskManager, task: str, data: Path) -> dict[str, Any]:
    """Return lm-eval's own definition of a task, with the rows of a file.

    Raises:
        UserError: the task is a group, or has no rows of its own.
    """
    file = known.task_index[task].yaml_path
    config = load_yaml(file) if file else {}
    splits = [config[name] for name in SPLITS if config.get(name)]
    if not splits:
        raise UserError(f"data=: {task} is no single task with rows of its own: name a single task")
    files = {split: str(data.absolute()) for split in splits}
    return config | {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}


def evaluate(path: Path, options: Options) -> Path:
    """Run lm-eval on a model or a file of responses, unless that was done; return the file with its JSON.

    Raises:
        UserError: a task's rows are not available, or see `wanted`, `load`.
    """
    content = [
        hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for file in (options.data, path)
        if file and Path(file).is_file()
    ]
    home = path.parent if path.is_file() else path / "eval"
    name = options.tasks.replace(",", "+")[:80]
    file = home / f"lm-eval-{VERSION}-{name}-{digest(asdict(options), content)}.json"
    if file.exists():
        return file
    try:
        with sentence_model(), seeded_language_detection():
            found = measure(*wanted(options), load(path, options), options)
    except (ConnectionError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"tasks={options.tasks}: no rows available ({reason}): give them with data=FILE") from None
    except KeyError as error:
        if not options.data:
            raise
        raise UserError(f"data={options.data}: its rows lack {error}: give the rows of {options.tasks}") from None
    except AssertionError as error:  # lm-eval's own check that a prompt and its response fit the context
        raise UserError(f"{path}: {error} For shorter responses use gen_kwargs=max_gen_toks=…") from None
    home.mkdir(exist_ok=True)
    write_text(file, json.dumps(found, indent=1, ensure_ascii=False, default=handle_non_serializable) + "\n")
    return file


def measure(known: TaskManager, tasks: list[Any], model: LM, options: Options) -> dict[str, Any]:
    """Return lm-eval's results; if given responses leave prompts out, those of the others, with `left_out`."""
    ask: Any = partial(
        simple_evaluate,
        model=model,
        tasks=tasks,
        task_manager=known,
        num_fewshot=options.num_fewshot,
        gen_kwargs=options.gen_kwargs,
        apply_chat_template=options.chat and not isinstance(model, GivenAnswers),
    )
    try:
        return ask(limit=options.limit)
    except LeftOut as some:
        return ask(samples=some.answered) | {"left_out": some.account}


def read_results(file: Path) -> dict[str, Any]:
    """Return lm-eval's JSON, with `results`: task -> metric -> value.

    Raises:
        UserError: the file is damaged or holds something else.
    """
    found = read_json(file)
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, dict) or not all(isinstance(values, dict) for values in results.values()):
        raise UserError(f"{file} is damaged, or no result of lm-eval: remove it, and evaluate again")
    return found


def generated(found: dict[str, Any]) -> list[str]:
    """Return the responses to generation tasks in lm-eval's form, which does not say how they ended."""
    samples = [sample for rows in found.get("samples", {}).values() for sample in rows]
    return [text for sample in samples for texts in sample["resps"] for text in texts if isinstance(text, str)]


def say(results: dict[str, dict[str, Any]]) -> None:
    """Print every metric of every task, with lm-eval's standard error if it has one."""
    for task, values in results.items():
        for metric, value in values.items():
            name, _, rest = metric.partition(",")
            error = values.get(f"{name}_stderr,{rest}")
            if rest and not name.endswith("_stderr"):
                output.print(f"  {task}: {name} {value:.4f}" + (f" ± {error:.4f}" if isinstance(error, float) else ""))


def say_left_out(left: dict[str, Any] | None) -> None:
    """Say which prompts were not scored, if any."""
    if left:
        missing, differing = left["missing"], left["differing"]
        output.print(
            f"  {missing + differing} of {left['prompts']} prompts not scored: {missing} have no response, "
            f"{differing} one to a prompt in slightly other words, such as {left['such_as'][:60]!r}",
            soft_wrap=True,
        )


def main(names: list[str], options: Options) -> None:
    """Evaluate and print."""
    for path in models(names):
        file = evaluate(path, options)
        output.print(f"{path}: {file}", soft_wrap=True)
        found = read_results(file)
        say(found["results"])
        say_left_out(found.get("left_out"))
        texts = generated(found)
        if texts:
            say_endings("its responses", endings(texts, [], []))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
