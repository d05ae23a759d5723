"""What a reward model says of responses, and how often it is right about held-out pairs."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from eval.answers.reward_judge import Judge
from eval.results.clusters import clusters
from eval.results.result import Result
from recipes.config import UserError, read_json, write_json
from recipes.profiles import TEST, VALIDATION


def judge_responses(name: str, prompts: list[object], result: Result) -> Judge:
    """Give each sampled response its `reward` by a judge; return the judge."""
    judge = judge_of(name)
    for responses in (result["sampled"], *zip(*result["further"], strict=True)):
        for response, reward in zip(responses, judge.rewards(prompts, list(responses)), strict=True):
            response["reward"] = reward
    return judge


@cache  # the models of a session have one judge
def judge_of(name: str) -> Judge:
    """Return the judge of a name, the same object for all models; its weights come and go."""
    return Judge(name)


@dataclass(frozen=True)
class Right:
    """About which held-out pairs a judge is right: 1, or ½ where it prefers none; and their clusters."""

    right: list[float]
    clusters: list[int]


def right_about(judge: Judge, pairs: Path, embedded: bool) -> Right:
    """Return how a judge ranks all held-out pairs, those of the validation split too: it was trained on none of them.

    A validation split is small, and says of hardly any judge that it is strong enough to choose settings. A judge that
    was trained here keeps what it said beside it, for the other models of the session.
    """
    if judge.stage is None:
        return ranked(judge, pairs, embedded)
    kept = judge.stage / "eval" / f"right-{pairs.name}.json"
    with suppress(UserError, TypeError):  # there is none yet, or it is damaged
        return Right(**read_json(kept))
    found = ranked(judge, pairs, embedded)
    with suppress(OSError):  # somebody else's directory
        kept.parent.mkdir(exist_ok=True)
        write_json(kept, asdict(found))
    return found


@cache
def ranked(judge: Judge, pairs: Path, embedded: bool) -> Right:
    """Have a judge rank the pairs of both splits."""
    from datasets import concatenate_datasets

    from recipes.data.pairs import open_pairs

    splits = open_pairs(pairs)
    held_out = [splits[name] for name in (TEST, VALIDATION) if len(splits.get(name, []))]
    if not held_out:  # responses without a partner alone
        return Right([], [])
    rows = concatenate_datasets(held_out)
    return Right(judge.right(rows), clusters(rows, embedded))
