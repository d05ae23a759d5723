"""Benchmarks of lm-evaluation-harness (IFEval, MMLU, GSM8K, ARC, TruthfulQA, …) on a model or on given responses.

    python -m eval.harness [STAGE …] tasks=ifeval,arc_challenge [data=FILE] [limit=…]

STAGE is a stage, a session, any model directory, or a file of responses (`prompt`, `response`) to generation tasks,
which is scored as it is (prompts without a response are left out, and counted); by default the newest session. The
model uses its profile's chat template (`chat=false`: none) and stops at its stop tokens. lm-eval's JSON, samples
included, is kept unchanged under `eval/` of the stage. `data=FILE` gives the rows of the one named task, in the format
of its data set, if the Hub cannot be reached; `tasks_dir=` has your own tasks as lm-eval's YAML.
"""

import hashlib
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.answers.files import endings, say_endings
from eval.answers.judging import digest, weight_files
from eval.commands.cli import models, run
from eval.results.sentences import seeded_language_detection, sentence_model
from recipes.config import UserError, read_json, write_text
from recipes.system.commands import output

VERSION = version("lm_eval")


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


def evaluate(path: Path, options: Options) -> Path:
    """Run lm-eval on a model or a file of responses, unless that was done; return the file with its JSON.

    Raises:
        UserError: there is no such task, or its rows are not available or do not fit.
    """
    tasks = sorted(file for file in Path(options.tasks_dir).rglob("*") if file.is_file()) if options.tasks_dir else []
    files = [Path(file) for file in (options.data, path, *tasks) if file and Path(file).is_file()]
    content = [*(hashlib.sha256(file.read_bytes()).hexdigest() for file in files), *weight_files(path)]
    home = path.parent if path.is_file() else path / "eval"
    name = options.tasks.replace(",", "+")[:80]
    file = home / f"lm-eval-{VERSION}-{name}-{digest(asdict(options), content)}.json"
    if file.exists():
        return file
    from eval.answers.benchmarks import find_tasks, load, measure, text_of

    asked = {"limit": options.limit, "num_fewshot": options.num_fewshot, "gen_kwargs": options.gen_kwargs}
    try:
        with sentence_model(), seeded_language_detection():
            known, tasks = find_tasks(options.tasks.split(","), options.data, options.tasks_dir)
            found = measure(known, tasks, load(path, options.batch_size), options.chat, **asked)
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
    write_text(file, text_of(found))
    return file


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
