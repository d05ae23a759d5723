"""Pairwise judge: which of two answers to the same prompt is better, asked in both orders.

    python -m eval.judge [OURS THEIRS | SESSION …] judge=MODEL [url=…]

OURS and THEIRS are files of answers (`prompt`, `response`; or AlpacaEval's `instruction`, `output`) or evaluated
stages. With sessions instead, or nothing (the newest one), all their pipelines are compared. The judge answers at
`url=` as OpenAI's chat completions do, and its key comes from the environment variable `key=`.
"""

import re
import sys
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from eval.answers.endpoint import Reply, host_class
from eval.answers.files import answered, endings_of, read_answers, say_endings
from eval.answers.judging import MALFORMED, Judging, Question, account, digest, judge_all, say_account
from eval.cli import run
from eval.console import console
from eval.results import statistics
from eval.results.session import jobs_of, models_of, sessions
from eval.results.statistics import Estimate, share
from recipes.config import UserError, write_json

PROMPTS = Path(__file__).with_name("prompts")
MAX_TOKENS = 512
SCORE = {"A": 1.0, "B": 0.0, "C": 0.5}  # of the answer shown first


@dataclass
class Options(Judging):
    """The options of the command line."""

    answers: str = "greedy"  # which of a stage's answers: greedy or sampled
    prompts: int | None = None  # the first so many prompts; null: all


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


def read(reply: Reply) -> str | None:
    """Return the letter a reply ends with, or None where it gives none or does not decide between several."""
    letters = set(re.findall(r"\[\[([ABC])\]\]", reply.text))
    return letters.pop() if len(letters) == 1 else None


def compare(ours: Path, theirs: Path, options: Options) -> dict[str, Any]:
    """Judge two sides, write the result beside ours and return it.

    Raises:
        UserError: they have no prompt in common, or the judge fails.
    """
    rows = [answered(side, options.answers) for side in (ours, theirs)]
    left, right = (read_answers(side, options.answers) for side in (ours, theirs))
    common = [prompt for prompt in left if prompt in right][: options.prompts]
    if not common:
        raise UserError(f"{ours} and {theirs} answer no prompt in common: judge answers to the same prompts")
    template = yaml.safe_load((PROMPTS / "pairwise.yaml").read_text())
    asked = questions({prompt: left[prompt] for prompt in common}, right, template)
    name = digest(options.judge, host_class(options.url), [question.messages for question in asked])
    home = ours / "eval" if ours.is_dir() else ours.parent
    file = home / f"judge-{name}.jsonl"
    found = judge_all(asked, read, file, options, temperature=0, max_tokens=MAX_TOKENS)
    result = {
        "ours": str(ours),
        "theirs": str(theirs),
        "prompts": len(common),
        "answers": [endings_of(side, common) for side in rows],
        **summary([one["verdict"] for one in found]),
        **account(found, options, digest(template)),
    }
    write_json(file.with_suffix(".json"), result)
    return result


def summary(letters: list[str]) -> dict[str, Any]:
    """Return what the verdicts say, two in a row to a prompt: ours first, then theirs first.

    A prompt scores the mean of its two orders for us (1 win, 0.5 tie, 0 loss). One with a malformed verdict is
    left out of all figures and counted.
    """
    pairs = [pair for pair in zip(letters[::2], letters[1::2], strict=True) if MALFORMED not in pair]
    if not pairs:
        return {"judged": 0}
    scores = np.array([(SCORE[ab] + 1 - SCORE[ba]) / 2 for ab, ba in pairs])
    against = statistics.compare(scores[None], np.full((1, len(scores)), 0.5))
    return {
        "judged": len(pairs),
        "win_rate": asdict(share(scores[None])),
        "p": against.p,  # of the exact sign test over prompts
        "verdict": against.verdict,
        "same_in_both_orders": float(np.mean([SCORE[ab] == 1 - SCORE[ba] for ab, ba in pairs])),
        "first_preferred": float(np.mean([SCORE[letter] for pair in pairs for letter in pair])),
        "ties": float(np.mean([letter == "C" for pair in pairs for letter in pair])),
    }


def say(result: dict[str, Any]) -> None:
    """Print a comparison in words."""
    console.print(f"{result['ours']} against {result['theirs']}", soft_wrap=True)
    left_out = result["prompts"] - result["judged"]
    if result["judged"]:
        rate = Estimate(**result["win_rate"])
        console.print(
            f"  win rate {rate.mean:.1%} [{rate.low:.1%}, {rate.high:.1%}] over {result['judged']} prompts: "
            f"{result['verdict']}; same verdict in both orders {result['same_in_both_orders']:.0%}, "
            f"ties {result['ties']:.0%}, the answer shown first scores {result['first_preferred']:.0%}",
            soft_wrap=True,
        )
    if left_out:
        console.print(f"  {left_out} prompts left out: the judge gave no readable verdict in one order at least")
    for side, ends in zip((result["ours"], result["theirs"]), result["answers"], strict=True):
        say_endings(side, ends)
    say_account(result)


def sides(names: list[str]) -> list[tuple[Path, Path]]:
    """Return what to compare: two files or stages, or the pipelines of sessions, each with each.

    Raises:
        UserError: see `sessions`.
    """
    if len(names) == 2 and not any(list(Path(name).glob("*/job.json")) for name in names):
        return [(Path(names[0]), Path(names[1]))]
    return [pair for one in sessions(names) for job in jobs_of(one) for pair in combinations(models_of(job), 2)]


def main(names: list[str], options: Options) -> None:
    """Judge and print."""
    for ours, theirs in sides(names):
        say(compare(ours, theirs, options))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
