"""People as the judge: which of two responses to the same prompt is better, side by side and blind, in a browser.

    python -m eval.people [SESSION] [name=NAME] [prompts=50] [pipelines=dpo,orpo] [port=8765]

Prints the address of a page that only this machine can open. Keys: ← and → say which response is better, ↓ or t a tie,
s skips the pair, u undoes. Ctrl-C ends it, and the same command goes on. Every judge needs a `name=` of their own; all
judge the same prompts, each in another order. `make eval` then prints the table with the votes in it.
"""

import re
import sys
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations, groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from eval.answers.votes import POINTS, SKIP, UNDO, Ballot, Pair, Vote, ballot, key, now
from eval.commands.cli import run
from eval.pages.people import Server
from eval.results.matrix import probability
from eval.results.metrics import PEOPLE
from eval.results.people import interval, notes, pairs_of
from eval.results.row import Row
from eval.results.rows import NAMES
from eval.results.session import sessions
from eval.results.table import rows_of
from recipes.config import UserError
from recipes.system.commands import output

HEAD = ["the first against the second", "votes", "win rate", "p after Holm", "verdict"]


@dataclass
class Options:
    """The options of the command line."""

    name: str = "anonymous"  # the judge's
    prompts: int = 50  # so many held-out prompts, the same for all judges
    pipelines: str | None = None  # which, with commas between; null: all
    port: int = 8765


class Judging:
    """One judge's way through the pairs of a session."""

    def __init__(self, session: Path, pairs: list[Pair], judge: str, kept: Ballot) -> None:
        self.session, self.judge, self.kept = session, judge, kept
        self.pairs = {pair.id: pair for pair in shuffled(pairs, judge)}

    @property
    def current(self) -> Pair | None:
        """The first pair without a vote."""
        return next((pair for name, pair in self.pairs.items() if name not in self.kept.votes), None)

    @property
    def votes(self) -> list[Vote]:
        """The votes on these pairs, the last one cast last."""
        return [vote for name, vote in self.kept.votes.items() if name in self.pairs]

    def sides(self, pair: Pair) -> tuple[int, int]:
        """Return which of a pair's responses is shown on the left, and which on the right."""
        first = int(key(self.judge, pair.id, "side"), 16) % 2
        return first, 1 - first

    def choose(self, shown: str, choice: str) -> None:
        """Keep what was chosen of the pair that is `shown`; nothing where that is not the current one (a second click).

        Raises:
            OSError: it cannot be written.
        """
        pair, votes = self.current, self.votes
        if shown != (pair.id if pair else ""):
            return
        if choice == UNDO and votes:
            self.kept.undo(votes[-1])
        elif choice in POINTS and pair:
            left, right = (pair.names[side] for side in self.sides(pair))
            self.kept.cast(Vote(self.judge, pair.id, key(pair.prompt), pair.seed, left, right, choice, now()))

    def page(self) -> dict[str, Any]:
        """Return what the page shows: the current pair, which names no pipeline, or at the end the results."""
        pair, votes = self.current, self.votes
        found = {"done": len(votes), "total": len(self.pairs), "left": minutes(votes, len(self.pairs)), "pair": pair}
        if pair:
            return found | {"texts": [pair.texts[side] for side in self.sides(pair)]}
        rows = rows_of(self.session)
        return found | {"table": summary(rows), "notes": list(notes(rows)), "path": str(self.kept.path)}


def shuffled(pairs: list[Pair], judge: str) -> list[Pair]:
    """Return pairs in an order that is a judge's own and always the same, all pairs of a prompt together."""
    return sorted(pairs, key=lambda pair: (key(judge, pair.prompt), key(judge, pair.id)))


def minutes(votes: list[Vote], total: int) -> str:
    """Say how long the remaining pairs take at the median pace so far."""
    times = sorted(datetime.fromisoformat(vote.time) for vote in votes)
    paces = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    return f"about {max(1, round(median(paces) * (total - len(votes)) / 60))} min left" if paces else ""


def pairs_to_judge(rows: list[Row], options: Options) -> list[Pair]:
    """Return the pairs of every two pipelines of each setting: of so many prompts, which a digest chooses.

    Under `compare_with=X` only X's pairs with each other pipeline: votes on others would have no verdict.

    Raises:
        UserError: there are fewer than two of the pipelines, none of their pairs is asked for, or no prompts.
    """
    wanted = options.pipelines.split(",") if options.pipelines else [row.pipeline for row in rows if row.stages]
    known = list(dict.fromkeys(row.pipeline for row in rows if row.stages))
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"pipelines={options.pipelines}: there is no {unknown[0]}; there are {', '.join(known)}")
    if len({*wanted}) < 2:
        raise UserError(f"one pipeline has nothing to be compared with: two of {', '.join(known)} are needed")
    if options.prompts < 1:
        raise UserError(f"prompts={options.prompts}: at least 1 is needed")
    trained = [row for row in rows if row.pipeline in wanted]
    groups = [list(group) for _, group in groupby(trained, lambda row: row.setting)]
    every = [two for group in groups for two in combinations(group, 2)]
    asked = [(one, other) for one, other in every if one.tested_against(other)]
    if every and not asked:
        against = every[0][0].compare_with
        raise UserError(f"pipelines={options.pipelines}: this session compares each with {against}: name {against} too")
    pairs = [pair for two in asked for pair in pairs_of(*two)]
    chosen = {*sorted({pair.prompt for pair in pairs}, key=key)[: options.prompts]}
    return [pair for pair in pairs if pair.prompt in chosen]


def summary(rows: list[Row]) -> list[list[str]]:
    """Return what all judges' votes say of every two pipelines, head first."""
    lines = [HEAD]
    for place, row in enumerate(rows):
        for other in (other for other in rows[place + 1 :] if other.setting == row.setting):
            if (found := row.against.get(PEOPLE, {}).get(other.pipeline)) and found.asked:
                pair = " : ".join(NAMES.get(name, name) for name in (row.pipeline, other.pipeline))
                cast = [vote for two, vote in row.votes if two.names[1] == other.pipeline and vote.choice != SKIP]
                said = [interval(found.rate), probability(found.adjusted), found.verdict]
                lines.append([f"{pair} {row.setting}".strip(), str(len(cast)), *said])
    return lines


def main(names: list[str], options: Options) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: the user can fix it.
    """
    session, *others = sessions(names)
    if others:
        raise UserError(f"{len(others) + 1} sessions: judge one at a time")
    if not re.fullmatch(r"[\w-]{1,40}", options.name):
        raise UserError(f"name={options.name}: use letters, digits, - and _, at most 40")
    pairs = pairs_to_judge(rows_of(session), options)
    with ballot(session, options.name) as kept:
        judging = Judging(session, pairs, options.name, kept)
        try:
            with Server(options.port, judging.page, judging.choose) as server:
                output.print(f"{len(judging.pairs)} pairs, {len(judging.votes)} judged by {options.name}. Open")
                output.print(f"  {server.url}", soft_wrap=True)
                output.print("in a browser on this machine; Ctrl-C ends it.")
                server.serve_forever()
        except KeyboardInterrupt:
            output.print(f"{len(judging.votes)} of {len(judging.pairs)} pairs judged: {kept.path}", soft_wrap=True)
            said = f"Run the same command to continue; `make eval RUNS={session}` puts the votes into the table."
            output.print(said, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
