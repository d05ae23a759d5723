"""A judge of people's, who votes without a browser."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eval.answers.votes import Pair, ballot
from eval.people import Judging, Options, pairs_to_judge
from eval.results.table import rows_of

RIVALS = "dpo,orpo"


@contextmanager
def judging(session: Path, name: str = "ada", pipelines: str | None = RIVALS, prompts: int = 50) -> Iterator[Judging]:
    """What `make judge` serves."""
    pairs = pairs_to_judge(rows_of(session), Options(prompts=prompts, pipelines=pipelines))
    with ballot(session, name) as kept:
        yield Judging(session, pairs, name, kept)


def judge_all(found: Judging, decide: Callable[[Pair], str]) -> None:
    """Vote on all pairs: for the pipeline that `decide` names, or tie or skip."""
    while pair := found.current:
        left, right = (pair.names[side] for side in found.sides(pair))
        found.choose(pair.id, {left: "left", right: "right"}.get(decide(pair), decide(pair)))


def number(pair: Pair) -> int:
    return int(pair.prompt.split("?")[0].split()[1])
