"""Pairwise judge: which of two responses to the same prompt is better, asked in both orders.

    python -m eval.judge [OURS THEIRS | SESSION …] judge=MODEL [url=…]

OURS and THEIRS are files of responses (`prompt`, `response`; or AlpacaEval's `instruction`, `output`) or evaluated
stages. For sessions (default: the newest), all pipelines are compared, over their seeds and with p after Holm over the
session's pairs; `judge.json` in the session has the results. The judge at `url=` speaks OpenAI's chat completions; its
key is in the environment variable that `key=` names.
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
from eval.commands.cli import run
from eval.results import statistics
from eval.results.matrix import probability
from eval.results.rows import NAMES, by_setting
from eval.results.session import jobs_of, models_of, sessions
from eval.results.setting import Setting
from eval.results.statistics import Comparison, Estimate
from recipes.config import UserError, write_json
from recipes.system.commands import output

PROMPTS = Path(__file__).with_name("prompts")
MAX_TOKENS = 512
SCORE = {"A": 1.0, "B": 0.0, "C": 0.5}  # of the response shown first


@dataclass
class Options(Judging):
    """The options of the command line."""

    answers: str = "greedy"  # which of a stage's responses: greedy or sampled
    prompts: int | None = None  # the first n prompts; null: all


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
    """Return the letter that a reply ends with, or None if it has none or several."""
    letters = set(re.findall(r"\[\[([ABC])\]\]", reply.text))
    return letters.pop() if len(letters) == 1 else None


@dataclass(frozen=True)
class Pair:
    """Two sides: their names, and where their responses are, for each seed."""

    ours: str
    theirs: str
    places: list[tuple[Path, Path]]
    seeds: list[int] | None = None  # None: two files or stages, without seeds


@dataclass(frozen=True)
class Judged:
    """The verdicts on two sides of one seed."""

    prompts: list[str]
    verdicts: list[dict[str, Any]]  # two a prompt: ours shown first, then theirs
    sides: list[list[dict[str, Any]]]  # the rows of our responses, and of theirs
    file: Path  # of the verdicts

    @property
    def letters(self) -> dict[str, tuple[str, str]]:
        """Prompt -> the letters of both orders, where both could be read."""
        letters = [one["verdict"] for one in self.verdicts]
        orders = zip(self.prompts, letters[::2], letters[1::2], strict=True)
        return {prompt: (ab, ba) for prompt, ab, ba in orders if MALFORMED not in (ab, ba)}


def compare(pairs: list[Pair], options: Options) -> list[dict[str, Any]]:
    """Judge all pairs of a page and return each one's result over its seeds, with p after Holm over the pairs.

    Raises:
        UserError: two sides share no prompt, or the judge fails.
    """
    judged = [[judge(*place, options) for place in pair.places] for pair in pairs]
    found = [points(seeds) for seeds in judged]
    tests = iter(statistics.holm([statistics.compare_points(one) for one in found if one.size]))
    return [
        result(pair, seeds, next(tests) if one.size else None, options)
        for pair, seeds, one in zip(pairs, judged, found, strict=True)
    ]


def judge(ours: Path, theirs: Path, options: Options) -> Judged:
    """Judge two sides of one seed; the verdicts are kept next to ours.

    Raises:
        UserError: they share no prompt, or the judge fails.
    """
    rows = [answered(side, options.answers) for side in (ours, theirs)]
    left, right = (read_answers(side, options.answers) for side in (ours, theirs))
    common = [prompt for prompt in left if prompt in right][: options.prompts]
    if not common:
        raise UserError(f"{ours} and {theirs} share no prompt: give responses to the same prompts")
    asked = questions({prompt: left[prompt] for prompt in common}, right, template())
    name = digest(options.judge, host_class(options.url), [question.messages for question in asked])
    file = (ours / "eval" if ours.is_dir() else ours.parent) / f"judge-{name}.jsonl"
    verdicts = judge_all(asked, read, file, options, temperature=0, max_tokens=MAX_TOKENS)
    return Judged(common, verdicts, [[side[prompt] for prompt in common] for side in rows], file)


def template() -> dict[str, str]:
    """Return the judge's prompt."""
    return yaml.safe_load((PROMPTS / "pairwise.yaml").read_text())


def points(seeds: list[Judged]) -> np.ndarray:
    """Return our points, the mean of both orders (1 win, 0.5 tie, 0 loss), shape (seeds, prompts).

    A prompt with a malformed verdict in any seed is left out of all.
    """
    letters = [one.letters for one in seeds]
    readable = [prompt for prompt in letters[0] if all(prompt in one for one in letters)]
    orders = [[one[prompt] for prompt in readable] for one in letters]
    return np.array([[(SCORE[ab] + 1 - SCORE[ba]) / 2 for ab, ba in row] for row in orders])


def result(pair: Pair, seeds: list[Judged], found: Comparison | None, options: Options) -> dict[str, Any]:
    """Return a pair's result: the win rate over the seeds, how consistent the judge was, and what it cost."""
    verdicts = [verdict for one in seeds for verdict in one.verdicts]
    orders = [letters for one in seeds for letters in one.letters.values()]
    said = {"judged": 0}
    if found:
        said = {
            "judged": points(seeds).shape[1],
            "win_rate": asdict(found.rate),
            "p": found.p,
            "p_holm": found.adjusted,
            "verdict": found.verdict,
            "same_in_both_orders": float(np.mean([SCORE[ab] == 1 - SCORE[ba] for ab, ba in orders])),
            "first_preferred": float(np.mean([SCORE[letter] for letters in orders for letter in letters])),
            "ties": float(np.mean([letter == "C" for letters in orders for letter in letters])),
        }
    return {
        "ours": pair.ours,
        "theirs": pair.theirs,
        "seeds": pair.seeds,
        "prompts": len({prompt for one in seeds for prompt in one.prompts}),
        "answers": [endings_of([row for one in seeds for row in one.sides[side]]) for side in (0, 1)],
        **said,
        **account(verdicts, options, digest(template())),
        "verdicts": [str(one.file) for one in seeds],
    }


def say(found: dict[str, Any], pairs: int) -> None:
    """Print a comparison, one of `pairs` on its page."""
    seeds = f", seeds {', '.join(map(str, found['seeds']))}" if found["seeds"] else ""
    output.print(f"{found['ours']} against {found['theirs']}{seeds}", soft_wrap=True)
    left_out = found["prompts"] - found["judged"]
    if found["judged"]:
        rate = Estimate(**found["win_rate"])
        corrected = f" after Holm over {pairs} pairs" if pairs > 1 else ""
        output.print(
            f"  win rate {rate.mean:.1%} [{rate.low:.1%}, {rate.high:.1%}] over {found['judged']} prompts: "
            f"{found['verdict']}, {probability(found['p_holm'])}{corrected}; "
            f"same verdict in both orders {found['same_in_both_orders']:.0%}, "
            f"ties {found['ties']:.0%}, the response shown first scores {found['first_preferred']:.0%}",
            soft_wrap=True,
        )
    if left_out:
        output.print(f"  {left_out} prompts left out: no readable verdict in at least one order")
    for side, ends in zip((found["ours"], found["theirs"]), found["answers"], strict=True):
        say_endings(side, ends)
    say_account(found)


def pages(names: list[str]) -> list[tuple[Path | None, list[Pair]]]:
    """Return the pairs to compare: two files or stages, or for each session every two pipelines.

    Raises:
        UserError: see `sessions`.
    """
    if len(names) == 2 and not any(list(Path(name).glob("*/job.json")) for name in names):
        ours, theirs = names
        return [(None, [Pair(ours, theirs, [(Path(ours), Path(theirs))])])]
    return [(session, pairs_of(jobs_of(session))) for session in sessions(names)]


def pairs_of(jobs: list[dict[str, Any]]) -> list[Pair]:
    """Return every two models of each setting, the base model included, with the seeds that have both."""
    pairs = []
    for setting, group in by_setting([job for job in jobs if job["pipelines"]]):
        lasts = [dict(zip(("base", *job["pipelines"]), models_of(job), strict=True)) for job in group]
        for ours, theirs in combinations(dict.fromkeys(name for models in lasts for name in models), 2):
            both = [place for place, models in enumerate(lasts) if {ours, theirs} <= models.keys()]
            places = [(lasts[place][ours], lasts[place][theirs]) for place in both]
            if both:
                pairs.append(
                    Pair(title(ours, setting), title(theirs, setting), places, [group[place]["seed"] for place in both])
                )
    return pairs


def title(name: str, setting: Setting) -> str:
    """Return a pipeline's name, as in the table."""
    return f"{NAMES.get(name, name)} {setting}".strip()


def main(names: list[str], options: Options) -> None:
    """Judge, print and write: a session's results into it, those of two files or stages next to ours."""
    for session, pairs in pages(names):
        found = compare(pairs, options)
        for one in found:
            say(one, len(found))
        if session:
            write_json(session / "judge.json", found)
        else:
            write_json(Path(found[0]["verdicts"][0]).with_suffix(".json"), found[0])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
