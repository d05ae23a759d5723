"""Pairwise judge: which of two responses to the same prompt is better, asked in both orders.

    python -m eval.judge [OURS THEIRS | SESSION …] judge=MODEL [url=…]

OURS and THEIRS are files of responses (`prompt`, `response`; or AlpacaEval's `instruction`, `output`) or evaluated
stages. For sessions (default: the newest), all pipelines are compared, over their seeds and with p after Holm over the
session's pairs, and ranked; `judge.json` in the session has the results. The judge at `url=` speaks OpenAI's chat
completions; its key is in the environment variable that `key=` names.

    answers=greedy     which responses: greedy, or sampled (those of the table's win rates)
    prompts=50         only the first prompts
    base=true          the base model too
    input_price=2 output_price=8   dollars per million tokens, for the cost that is printed before anything is asked
    concurrency=8 timeout=120
"""

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np

from eval.answers.files import endings_of, say_endings
from eval.answers.judging import Judging, account, digest, say_account
from eval.answers.pairwise import SCORE, Case, Judged, case_of, judge_cases, points, relatives, template
from eval.commands.cli import run
from eval.results import statistics
from eval.results.matrix import ABSENT, probability
from eval.results.metric import percent
from eval.results.result import measured
from eval.results.rows import NAMES, by_setting, compared_with
from eval.results.session import jobs_of, models_of, sessions
from eval.results.statistics import BETTER, WORSE, Comparison, Estimate
from eval.results.terminal import LEGEND, show
from recipes.config import UserError, write_json
from recipes.system.commands import output

MIRRORED = {BETTER: WORSE, WORSE: BETTER}


@dataclass
class Options(Judging):
    """The options of the command line."""

    answers: str = "greedy"  # which of a stage's responses: greedy or sampled
    prompts: int | None = None  # the first n prompts; null: all
    base: bool = False  # whether a session's base model is compared too


@dataclass(frozen=True)
class Pair:
    """Two sides: their names, and where their responses are, for each seed."""

    ours: str
    theirs: str
    places: list[tuple[Path, Path]]
    seeds: list[int] | None = None  # None: two files or stages, without seeds
    setting: str = ""
    files: list[tuple[Path, Path]] | None = None  # of the two stages' measurements; None: the newest

    def cases(self, options: Options) -> list[Case]:
        """Return what to ask the judge, seed by seed."""
        return [
            case_of(*place, options, options.answers, options.prompts, *([self.files[number]] if self.files else []))
            for number, place in enumerate(self.places)
        ]


def compare(pairs: list[Pair], options: Options) -> list[dict[str, Any]]:
    """Judge all pairs of a page and return each one's result over its seeds, with p after Holm over the pairs.

    Raises:
        UserError: two sides share no prompt, or the judge fails.
    """
    cases = [case for pair in pairs for case in pair.cases(options)]
    verdicts = iter(judge_cases(cases, options))
    judged = [[next(verdicts) for _ in pair.places] for pair in pairs]
    found = [points(seeds) for seeds in judged]
    known = [(one, relatives(seeds)) for one, seeds in zip(found, judged, strict=True) if one.size]
    tests = iter(statistics.holm([statistics.compare_points(*one) for one in known]))
    return [
        result(pair, seeds, next(tests) if one.size else None, options)
        for pair, seeds, one in zip(pairs, judged, found, strict=True)
    ]


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
        "setting": pair.setting,
        "seeds": pair.seeds,
        "prompts": len({prompt for one in seeds for prompt in one.case.prompts}),
        "answers": [endings_of([row for one in seeds for row in one.case.sides[side]]) for side in (0, 1)],
        **said,
        **account(verdicts, options, digest(template())),
        "verdicts": [str(one.case.file) for one in seeds],
    }


def say(found: dict[str, Any]) -> None:
    """Print the comparison of two files or stages."""
    output.print(f"{found['ours']} against {found['theirs']}", soft_wrap=True)
    if found["judged"]:
        rate = Estimate(**found["win_rate"])
        output.print(
            f"  win rate {rate.mean:.1%} [{rate.low:.1%}, {rate.high:.1%}] over {found['judged']} prompts: "
            f"{found['verdict']}, {probability(found['p_holm'])}; "
            f"same verdict in both orders {found['same_in_both_orders']:.0%}, "
            f"ties {found['ties']:.0%}, the response shown first scores {found['first_preferred']:.0%}",
            soft_wrap=True,
        )
    say_unread(found)
    for side, ends in zip((found["ours"], found["theirs"]), found["answers"], strict=True):
        say_endings(side, ends)
    say_account(found)


def say_session(session: Path, found: list[dict[str, Any]]) -> None:
    """Print a session's win rates and ranking, a table for each setting, and where the rest is."""
    for setting, group in groupby(found, lambda one: one["setting"]):
        results = list(group)
        of = f"{setting}: " if setting else ""
        if not show([(f"{of}win rates by {results[0]['judge']}, row over column", matrix(results))]):
            output.print(LEGEND)
        places = [f"{place}. {name} ({percent(rate)})" for place, (name, rate) in enumerate(ranking(results), 1)]
        output.print(f"Ranking by mean win rate over the others: {', '.join(places)}", soft_wrap=True)
    for one in found:
        say_unread(one)
    output.print(f"p after Holm over {len(found)} pairs; consistency, lengths and costs: {session}/judge.json")


def matrix(results: list[dict[str, Any]]) -> list[list[str]]:
    """Return the win rates of row over column with verdicts, head first, the best row first."""
    names = [name for name, _ in ranking(results)]
    cells = {(one, other): cell for result in results for one, other, cell in both(result)}
    return [["", *names], *([name, *(cells.get((name, other), ABSENT) for other in names)] for name in names)]


def both(result: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Return a result's two cells of the matrix, with their rows and columns."""
    if result["judged"]:
        rate, verdict, p = result["win_rate"]["mean"], result["verdict"], probability(result["p_holm"])
        yield result["ours"], result["theirs"], f"{percent(rate)} {verdict}, {p}"
        yield result["theirs"], result["ours"], f"{percent(1 - rate)} {MIRRORED.get(verdict, verdict)}, {p}"


def ranking(results: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Return every name with its mean win rate over the others, the highest first."""
    rates: dict[str, list[float]] = {}
    for one in results:
        rate = one["win_rate"]["mean"] if one["judged"] else 0.5
        rates.setdefault(one["ours"], []).append(rate)
        rates.setdefault(one["theirs"], []).append(1 - rate)
    return sorted(((name, float(np.mean(found))) for name, found in rates.items()), key=lambda one: -one[1])


def say_unread(found: dict[str, Any]) -> None:
    """Print how many prompts have no readable verdict."""
    if left_out := found["prompts"] - found["judged"]:
        pair = f"{found['ours']} against {found['theirs']}"
        output.print(f"{pair}: {left_out} prompts left out: no readable verdict in at least one order", soft_wrap=True)


def pages(names: list[str], base: bool) -> list[tuple[Path | None, list[Pair]]]:
    """Return the pairs to compare: two files or stages, or for each session every two pipelines.

    Raises:
        UserError: see `sessions`; or there are no two models to compare.
    """
    if len(names) == 2 and not any(list(Path(name).glob("*/job.json")) for name in names):
        ours, theirs = names
        return [(None, [Pair(ours, theirs, [(Path(ours), Path(theirs))])])]
    found = [(session, pairs_of(jobs_of(session), base)) for session in sessions(names)]
    for session, pairs in found:
        if not pairs:
            raise UserError(f"{session} has one pipeline and nothing to compare it with: add base=true")
    return [*found]


def pairs_of(jobs: list[dict[str, Any]], base: bool) -> list[Pair]:
    """Return every two pipelines of each setting, and the base model if it is wanted, with the seeds that have both."""
    pairs = []
    for setting, group in by_setting([job for job in jobs if job["pipelines"]]):
        lasts = [dict(zip(("base", *job["pipelines"]), models_of(job), strict=True)) for job in group]
        known = dict.fromkeys(name for models in lasts for name in models if base or name != "base")
        asked = compared_with(group, known)
        for ours, theirs in combinations(known, 2):
            if asked and asked not in (ours, theirs):
                continue
            places = [place for place, models in enumerate(lasts) if {ours, theirs} <= models.keys()]
            if places:
                found = [(lasts[place][ours], lasts[place][theirs]) for place in places]
                names = NAMES.get(ours, ours), NAMES.get(theirs, theirs)
                seeds, settings = ([group[place][name] for place in places] for name in ("seed", "evaluation"))
                files = [(measured(a, one), measured(b, one)) for (a, b), one in zip(found, settings, strict=True)]
                pairs.append(Pair(*names, found, seeds, str(setting), files))
    return pairs


def main(names: list[str], options: Options) -> None:
    """Judge, print and write: a session's results into it, those of two files or stages next to ours."""
    for session, pairs in pages(names, options.base):
        if session:
            output.print(f"{options.answers} responses of {len(pairs)} pairs of pipelines", soft_wrap=True)
        found = compare(pairs, options)
        if session:
            write_json(session / "judge.json", found)
            say_session(session, found)
        else:
            write_json(Path(found[0]["verdicts"][0]).with_suffix(".json"), found[0])
            say(found[0])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
