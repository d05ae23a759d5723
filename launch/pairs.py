"""`make pairs`: preference pairs of a model's own responses, ordered by a score.

    python -m launch.pairs model=NAME dataset=PROMPTS to=FILE gold=FILE.py:FUNCTION [option=value …]
    python -m launch.pairs RUN        dataset=PROMPTS to=FILE judge=reward:MODEL    [option=value …]

The model, or the finished stage RUN, answers every prompt several times. The best and the worst answer make a pair.
PROMPTS is a file with a column of prompts, or a data set of pairs, whose training prompts are taken. The file in
`to=` has the common schema with scores: `make compare DATASET=FILE` follows. What was answered is kept: the same
command goes on after an interruption.

    answers=8          to each prompt
    prompts=1000       only the first
    temperature=1.0 seed=0 max_new_tokens=512
    margin=0.0         the least by which scores differ
    gold=… | judge=…   what scores: a function of a local file, or a reward model
    runs=runs          where answers are kept
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir

from eval.commands.cli import read_words
from launch.config.errors import CONF, explained
from launch.config.quiet import quieten
from launch.config.schema import register, resolve
from launch.named.words import with_profiles
from launch.stages.base_model import base_row, find_base
from launch.stages.inputs import with_chat_template
from launch.stages.prompts import Prompt, prompts_of
from recipes.config import UserError, done, read_config, write_text
from recipes.profiles import EMBEDDED
from recipes.system.commands import console, progress, run_command
from recipes.system.paths import expanded

if TYPE_CHECKING:
    from eval.answers.on_policy import Scored


@dataclass
class Options:
    """The options of the command line."""

    dataset: str = "???"
    to: str = "???"
    model: str | None = None
    gold: str | None = None
    judge: str | None = None
    answers: int = 8
    prompts: int | None = None
    temperature: float = 1.0
    seed: int = 0
    max_new_tokens: int = 512
    margin: float = 0.0
    runs: str = "runs"


def pairs(words: list[str]) -> None:
    """Sample, score, choose, and write the file.

    Raises:
        UserError: the user can fix it.
    """
    if {"-h", "--help"} & {*words}:
        console.print(__doc__, markup=False, soft_wrap=True)
        return
    names, options = read_words(words, Options)
    check(names, options)
    prompts = prompts_of(options.dataset)[: options.prompts]
    directory = Path(names[0]) if names else model_of(options)
    score = scorer(options)
    from eval.answers.generate import answer  # imports that take seconds
    from eval.answers.load import give_back
    from eval.answers.on_policy import Scored, as_row, choose, summary
    from eval.answers.store import Sampling

    sampling = Sampling(options.max_new_tokens, options.temperature, options.answers, options.seed)
    asked: list[Any] = [prompt.messages for prompt in prompts]
    with progress(len(prompts) * options.answers, f"pairs  {directory}") as advance:
        answered = answer(directory, asked, sampling, advance)
    give_back()  # a reward model may not fit into memory beside the model
    scores = score([messages for messages in asked for _ in range(options.answers)], [*chain(*answered)])
    each = [scores[place : place + options.answers] for place in range(0, len(scores), options.answers)]
    scored = [[Scored(*pair) for pair in zip(*row, strict=True)] for row in zip(answered, each, strict=True)]
    chosen = [choose(row, options.margin) for row in scored]
    made = {"made_by": provenance(directory, options)}
    rows = [
        as_row(prompt.messages, pair, prompt.more | made)
        for prompt, pair in zip(prompts, chosen, strict=True)
        if pair.chosen
    ]
    console.print(f"       {summary(chosen, each)}", soft_wrap=True)
    if not rows:
        raise UserError(
            f"no pair to write to {options.to}: answers to one prompt always score the same; raise answers="
        )
    place, every = places(options)
    answers = as_lines(as_answer(*said) for said in zip(prompts, scored, strict=True))
    for file, text in ((place, as_lines(rows)), (every, answers)):
        write_text(file, text)
    console.print(f"       written: {place}, and every answer with its score: {every}", soft_wrap=True)
    console.print(f"       next: make compare MODEL=… DATASET={options.to}", soft_wrap=True)


def as_answer(prompt: Prompt, scored: "list[Scored]") -> dict[str, Any]:
    """Return a prompt with all answers to it, their lengths and scores."""
    answers = [{"text": one.answer.text, "tokens": one.answer.tokens, "stopped": one.answer.stopped} for one in scored]
    scores = [{"score": one.score} for one in scored]
    return {"prompt": prompt.messages, "answers": [one | two for one, two in zip(answers, scores, strict=True)]}


def as_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as JSONL."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def check(names: list[str], options: Options) -> None:
    """Reject what cannot be done before anything is loaded.

    Raises:
        UserError: the message says what to do.
    """
    if len(names) + (options.model is not None) != 1:
        raise UserError("name the model that answers: MODEL=…, or a finished stage, RUN=runs/…")
    if names and not done(Path(names[0])):
        raise UserError(f"{names[0]} is no finished stage: name runs/<model>/<dataset>/<stage>-<digest>")
    if (options.gold is None) == (options.judge is None):
        raise UserError("name a scorer for the answers: gold=file.py:function, or judge=reward:<directory or Hub id>")
    if options.judge and not options.judge.removeprefix("reward:"):
        raise UserError(f"judge={options.judge}: write judge=reward:<directory or Hub id>")
    if options.answers < 2 or options.temperature <= 0 or options.max_new_tokens < 1 or options.margin < 0:
        raise UserError(
            "answers must be at least 2, temperature above 0, max_new_tokens at least 1, margin not negative"
        )
    if options.prompts is not None and options.prompts < 1:
        raise UserError(f"prompts={options.prompts}: give a number, at least 1, or leave it out for all prompts")
    place, every = places(options)
    if place.exists() or not place.parent.is_dir() or place.suffix != ".jsonl":
        raise UserError(f"to={options.to}: name a new file that ends with .jsonl, in a directory that exists")
    if every.exists():
        raise UserError(f"{every}, where all answers would be written, exists: give another to=, or move it away")


def places(options: Options) -> tuple[Path, Path]:
    """Return the files of the pairs and of all answers."""
    place = expanded(options.to)
    return place, place.with_name(f"{place.stem}-answers.jsonl")


def model_of(options: Options) -> Path:
    """Return a directory that stands for the model, as for a base model in an evaluation.

    Raises:
        UserError: the model cannot be found.
    """
    register()
    overrides = with_profiles([f"model={options.model}", "dataset=pocket", f"runs={options.runs}"])
    with explained(), initialize_config_dir(str(CONF), version_base="1.3"):
        config = resolve(compose("config", overrides))
    quieten()
    named = replace(config.dataset, name="prompts")  # the same for all: what was answered once is kept
    config = with_chat_template(replace(config, dataset=named))
    return base_row(config, find_base(config), Path(), "prompts")


def scorer(options: Options) -> Callable[[list[Any], list[Any]], list[float]]:
    """Return what scores answers, given the prompts as messages.

    Raises:
        UserError: there is no such function or reward model.
    """
    if options.gold:
        from eval.answers.gold import as_read, gold_of

        gold = gold_of(options.gold == EMBEDDED or options.gold)
        assert gold
        return lambda prompts, answers: [
            gold(as_read(prompt), answer.text)["gold"] for prompt, answer in zip(prompts, answers, strict=True)
        ]
    from eval.answers.reward_judge import Judge
    from launch.stages.judge import named

    judge = Judge(named(str(options.judge)))
    return lambda prompts, answers: judge.rewards(prompts, [vars(answer) for answer in answers])


def provenance(directory: Path, options: Options) -> str:
    """Return which model answered, how, and what scored it, in one word."""
    config = read_config(directory)
    who = f"{config['model']['name']}@{config['start_revision'] or 'local'}" if config["stage"] == "base" else directory
    by = options.gold or options.judge
    return f"{who}/temperature={options.temperature:g}/seed={options.seed}/answers={options.answers}/{by}".replace(
        " ", "_"
    )


if __name__ == "__main__":
    sys.exit(run_command(pairs, sys.argv[1:]))
