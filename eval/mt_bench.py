"""MT-Bench: two turns of each question, graded 1 to 10 by a judge as FastChat does.

    python -m eval.mt_bench [STAGE …] questions=FILE references=FILE judge=MODEL [url=…]

FILE are FastChat's `question.jsonl` and `reference_answer/gpt-4.jsonl` (fastchat/llm_judge/data/mt_bench). STAGE is a
stage directory, a session, or a file of answers in FastChat's format, which is graded as it is; by default the newest
session. Protocol, prompts and temperatures are those of FastChat's single-answer grading: a judge gives each turn 1 to
10, with the reference answer for mathematics, reasoning and coding. Scores of different judges are not comparable.
"""

import json
import re
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from eval.answers.endpoint import Answering, Reply, host_class
from eval.answers.files import endings, read_rows, say_endings
from eval.answers.judging import (
    MALFORMED,
    Judging,
    Question,
    account,
    announce,
    digest,
    judge_all,
    say_account,
    unanswered,
    weight_files,
)
from eval.answers.store import Answer, Sampling
from eval.commands.cli import models, run
from eval.results.statistics import Estimate, estimate
from recipes.config import UserError, write_json, write_text
from recipes.system.commands import output, progress

PROMPT = Path(__file__).with_name("prompts") / "mt_bench.yaml"
# FastChat's llm_judge/common.py: the answers' temperature by category, and the categories with a reference answer
TEMPERATURES = defaultdict(lambda: 0.7, extraction=0.0, math=0.0, coding=0.0, reasoning=0.0, stem=0.1, humanities=0.1)
WITH_REFERENCE = ("math", "reasoning", "coding")
MAX_TOKENS = 2048  # of a judgment
LEAST = 2  # questions: one has no interval
Turns = dict[int, list[str]]  # question id -> the texts of both turns


@dataclass
class Options(Judging, Answering):
    """The options of the command line."""

    questions: str = "???"
    references: str = "???"
    max_new_tokens: int = 1024  # of an answer, as in FastChat
    seed: int = 0


def read_turns(path: Path) -> Turns:
    """Return a file of answers in FastChat's format.

    Raises:
        UserError: the file has another format.
    """
    try:
        found = {row["question_id"]: row["choices"][0]["turns"] for row in read_rows(path)}
    except (KeyError, IndexError, TypeError):
        found = {}
    if not found or not all(map(are_turns, found.values())):
        raise UserError(f"{path}: give answers in FastChat's format: question_id, and two texts in choices[0].turns")
    return found


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Return a file of questions in FastChat's format.

    Raises:
        UserError: the file has another format.
    """
    questions = read_rows(path)
    if not all({"question_id", "category"} <= row.keys() and are_turns(row.get("turns")) for row in questions):
        raise UserError(
            f"{path}: give FastChat's question.jsonl, with question_id, category and turns (two texts) in each row"
        )
    return questions


def are_turns(value: Any) -> bool:
    """Whether a value is a list of two or more texts."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) for text in value)


def answer_turns(directory: Path, questions: list[dict[str, Any]], options: Options) -> Path:
    """Generate a stage's answers to both turns of every question, once; return the file, in FastChat's format."""
    endpoint, who = options.elsewhere(), options.names_of_endpoint()
    name = digest(
        [question["turns"] for question in questions],
        *(options.max_new_tokens, options.seed, *who, *weight_files(directory)),
    )
    file = directory / "eval" / f"mt-bench-answers-{name}.jsonl"
    if not file.exists():
        from eval.answers.dialogues import answer_once  # takes seconds, which grading a file does not need

        found: dict[Any, list[Answer]] = {question["question_id"]: [] for question in questions}
        with progress(2 * len(questions), f"generate {directory}") as advance:
            for temperature in sorted({TEMPERATURES[question["category"]] for question in questions}):
                asked = [question for question in questions if TEMPERATURES[question["category"]] == temperature]
                for turn in (0, 1):
                    dialogues = [
                        dialogue(question, [one.text for one in found[question["question_id"]]], turn)
                        for question in asked
                    ]
                    sampling = Sampling(options.max_new_tokens, temperature, seed=options.seed)
                    new = answer_once(directory, dialogues, sampling, advance, endpoint)
                    for question, answer in zip(asked, new, strict=True):
                        found[question["question_id"]].append(answer)
        rows = [
            {"question_id": number, "model_id": str(directory), "choices": [choice(both)]}
            for number, both in found.items()
        ]
        file.parent.mkdir(exist_ok=True)
        write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return file


def choice(answers: list[Answer]) -> dict[str, Any]:
    """Return the answers to both turns in FastChat's format, and how they ended."""
    columns = zip(*((one.text, one.stopped, one.tokens) for one in answers), strict=True)
    return {"index": 0} | dict(zip(("turns", "stopped", "tokens"), map(list, columns), strict=True))


def dialogue(question: dict[str, Any], answered: list[str], turn: int) -> list[dict[str, str]]:
    """Return the dialogue up to and including the user's `turn`."""
    said = [("user", question["turns"][0])]
    if turn:
        said += [("assistant", answered[0]), ("user", question["turns"][1])]
    return [{"role": role, "content": content} for role, content in said]


def judgements(questions: list[dict[str, Any]], answers: Turns, references: Turns) -> list[Question]:
    """Return the questions to the judge: for each question turn 1, then the dialogue with turn 2.

    Raises:
        UserError: an answer, or a reference answer that the category needs, is missing.
    """
    prompts = yaml.safe_load(PROMPT.read_text())
    asked = []
    for question in questions:
        number = question["question_id"]
        sources = {"question": question["turns"], "answer": answers.get(number)}
        kind = "single-v1"
        if question["category"] in WITH_REFERENCE:
            kind, sources["reference"] = "single-math-v1", references.get(number)
        for source, turns in sources.items():
            if not turns:
                raise UserError(f"question {number} ({question['category']}) has no {source}: add it to its file")
        values = {f"{source}_{turn + 1}": turns[turn] for source, turns in sources.items() for turn in (0, 1)}
        for turn, name in ((1, kind), (2, f"{kind}-multi-turn")):
            messages = [
                {"role": "system", "content": prompts[name]["system"]},
                {"role": "user", "content": prompts[name]["user"].format(**values)},
            ]
            asked.append(Question(f"{number}-turn-{turn}", messages))
    return asked


def read(reply: Reply) -> float | None:
    """Return the rating of a reply, the first in double brackets, else in single ones; None unless it is 1 to 10."""
    found = re.search(r"\[\[(\d+\.?\d*)\]\]", reply.text) or re.search(r"\[(\d+\.?\d*)\]", reply.text)
    rating = float(found[1]) if found else 0.0
    return rating if 1 <= rating <= 10 else None


def summary(questions: list[dict[str, Any]], ratings: list[Any]) -> dict[str, Any]:
    """Return mean ratings, from two in a row for each question: overall with an interval, by turn and by category.

    Questions with a malformed verdict are left out of all of them. An interval needs two questions.
    """
    pairs = zip(questions, ratings[::2], ratings[1::2], strict=True)
    whole = [
        (question["category"], first, second) for question, first, second in pairs if MALFORMED not in (first, second)
    ]
    if len(whole) < LEAST:
        return {"judged": len(whole)}
    turns = np.array([[first, second] for _, first, second in whole])
    return {
        "judged": len(whole),
        "score": asdict(estimate(turns.mean(axis=1)[None])),
        "turns": turns.mean(axis=0).tolist(),
        "categories": {
            name: float(turns[[category == name for category, _, _ in whole]].mean())
            for name in dict.fromkeys(category for category, _, _ in whole)
        },
    }


def grade(model: Path, options: Options) -> dict[str, Any]:
    """Grade a stage, or a file of answers; write the result beside it and return it.

    Raises:
        UserError: a file is missing or has another format, or the judge fails.
    """
    questions = read_questions(Path(options.questions))
    file = answer_turns(model, questions, options) if model.is_dir() else model
    asked = judgements(questions, read_turns(file), read_turns(Path(options.references)))
    name = digest(options.judge, host_class(options.url), [question.messages for question in asked])
    kept = file.parent / f"mt-bench-{name}.jsonl"
    announce(unanswered(asked, kept), len(asked), options, MAX_TOKENS)
    found = judge_all(asked, read, kept, options, temperature=0, max_tokens=MAX_TOKENS)
    prompt = digest(yaml.safe_load(PROMPT.read_text()))
    result = {"model": str(model), **summary(questions, [one["verdict"] for one in found])}
    result |= {"answers": endings_in(file)} | account(found, options, prompt)
    write_json(kept.with_suffix(".json"), result)
    return result


def endings_in(file: Path) -> dict[str, Any]:
    """Return how the answers of a file in FastChat's format ended, see `eval.answers.files.endings`."""
    choices = [row["choices"][0] for row in read_rows(file)]
    texts = [text for one in choices for text in one["turns"]]
    ends = ([end for one in choices for end in one.get(name, [None])] for name in ("stopped", "tokens"))
    return endings(texts, *ends)


def say(result: dict[str, Any]) -> None:
    """Print a model's grades."""
    output.print(result["model"], soft_wrap=True)
    if result["judged"] >= LEAST:
        score = Estimate(**result["score"])
        output.print(
            f"  MT-Bench {score.mean:.2f} [{score.low:.2f}, {score.high:.2f}] over {result['judged']} questions; "
            f"turns {' and '.join(format(turn, '.2f') for turn in result['turns'])}; "
            + ", ".join(f"{name} {mean:.2f}" for name, mean in result["categories"].items()),
            soft_wrap=True,
        )
    say_endings("its responses", result["answers"])
    say_account(result)


def main(names: list[str], options: Options) -> None:
    """Grade and print."""
    for model in models(names):
        say(grade(model, options))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
