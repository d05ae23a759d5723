"""Two responses to the same prompt before a judge, in both orders."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from eval.answers.endpoint import Reply, host_class
from eval.answers.files import answered, texts
from eval.answers.judging import MALFORMED, Judging, Question, announce, digest, judge_all, unanswered
from recipes.config import UserError

PROMPT = Path(__file__).parent.parent / "prompts" / "pairwise.yaml"
MAX_TOKENS = 512
SCORE = {"A": 1.0, "B": 0.0, "C": 0.5}  # of the response shown first
ORDERS = 2


@dataclass(frozen=True)
class Case:
    """What a judge is asked about two sides of one seed."""

    prompts: list[str]
    questions: list[Question]  # two a prompt: ours shown first, then theirs
    sides: list[list[dict[str, Any]]]  # the rows of our responses, and of theirs
    file: Path  # of the verdicts


@dataclass(frozen=True)
class Judged:
    """A case with its verdicts."""

    case: Case
    verdicts: list[dict[str, Any]]  # one a question

    @property
    def letters(self) -> dict[str, tuple[str, str]]:
        """Prompt -> the letters of both orders, where both could be read."""
        letters = [one["verdict"] for one in self.verdicts]
        orders = zip(self.case.prompts, letters[::ORDERS], letters[1::ORDERS], strict=True)
        return {prompt: (ab, ba) for prompt, ab, ba in orders if MALFORMED not in (ab, ba)}


def case_of(
    ours: Path, theirs: Path, judging: Judging, kind: str, most: int | None, files: Sequence[Path | None] = (None, None)
) -> Case:
    """Return what to ask about two files or stages: their `kind` of responses to at most `most` prompts.

    Stages' responses are those in these files of their measurements, else the newest.

    Raises:
        UserError: they share no prompt.
    """
    rows = [answered(side, kind, file) for side, file in zip((ours, theirs), files, strict=True)]
    left, right = (texts(found, side) for found, side in zip(rows, (ours, theirs), strict=True))
    common = [prompt for prompt in left if prompt in right][:most]
    if not common:
        raise UserError(f"{ours} and {theirs} share no prompt: give responses to the same prompts")
    asked = questions({prompt: left[prompt] for prompt in common}, right, template())
    name = digest(judging.judge, host_class(judging.url), [question.messages for question in asked])
    file = (ours / "eval" if ours.is_dir() else ours.parent) / f"judge-{name}.jsonl"
    return Case(common, asked, [[side[prompt] for prompt in common] for side in rows], file)


def judge_cases(cases: list[Case], judging: Judging) -> list[Judged]:
    """Say how many questions there are in all, and ask them; each case's verdicts are kept next to its responses.

    Raises:
        UserError: the judge fails for good; verdicts so far are kept.
    """
    missing = [question for case in cases for question in unanswered(case.questions, case.file)]
    announce(missing, sum(len(case.questions) for case in cases), judging, MAX_TOKENS)
    options = {"temperature": 0, "max_tokens": MAX_TOKENS}
    return [Judged(case, judge_all(case.questions, read, case.file, judging, **options)) for case in cases]


def questions(ours: dict[str, str], theirs: dict[str, str], template: dict[str, str]) -> list[Question]:
    """Return two questions for each prompt: ours shown first (`…-ab`), then theirs (`…-ba`)."""
    found = []
    for number, prompt in enumerate(ours):
        first, second = ours[prompt], theirs[prompt]
        for order, a, b in (("ab", first, second), ("ba", second, first)):
            user = template["user"].format(prompt=prompt, a=a, b=b)
            messages = [{"role": "system", "content": template["system"]}, {"role": "user", "content": user}]
            found.append(Question(f"{number}-{order}", messages))
    return found


def template() -> dict[str, str]:
    """Return the judge's prompt."""
    return yaml.safe_load(PROMPT.read_text())


def read(reply: Reply) -> str | None:
    """Return the letter that a reply ends with, or None if it has none or several."""
    letters = set(re.findall(r"\[\[([ABC])\]\]", reply.text))
    return letters.pop() if len(letters) == 1 else None


def points(seeds: list[Judged]) -> np.ndarray:
    """Return our points, the mean of both orders (1 win, 0.5 tie, 0 loss), shape (seeds, prompts)."""
    orders = [[one.letters[prompt] for prompt in readable(seeds)] for one in seeds]
    return np.array([[(SCORE[ab] + 1 - SCORE[ba]) / 2 for ab, ba in row] for row in orders])


def relatives(seeds: list[Judged]) -> np.ndarray:
    """Return the number of the cluster of each prompt that has points; of files each prompt is a cluster."""
    case = seeds[0].case
    clusters = {prompt: row.get("cluster", prompt) for prompt, row in zip(case.prompts, case.sides[0], strict=True)}
    return np.unique([str(clusters[prompt]) for prompt in readable(seeds)], return_inverse=True)[1]


def readable(seeds: list[Judged]) -> list[str]:
    """Return the prompts with readable verdicts: one with a malformed verdict in any seed is left out of all."""
    letters = [one.letters for one in seeds]
    return [prompt for prompt in letters[0] if all(prompt in one for one in letters)]
