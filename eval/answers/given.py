"""Existing responses instead of a model, for lm-evaluation-harness to query and score as usual."""

from collections import defaultdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from recipes.config import UserError

ALIKE = 0.9  # difflib's ratio from which two prompts are the same one in other words


class LeftOut(Exception):
    """Some prompts have no response.

    Args:
        answered: task -> numbers of the rows that have one.
        account: how many have none, see `GivenAnswers.account`.
    """

    def __init__(self, answered: dict[str, list[int]], account: dict[str, Any]) -> None:
        super().__init__()
        self.answered, self.account = answered, account


class GivenAnswers(LM):
    """Responses by prompt, white space apart."""

    def __init__(self, answers: dict[str, str], path: Path) -> None:
        super().__init__()
        self.answers, self.path = {squeeze(prompt): text for prompt, text in answers.items()}, path

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the response to each prompt.

        Raises:
            LeftOut: some prompts have none.
            UserError: no prompt of a task has one.
        """
        missing = [request for request in requests if squeeze(request.args[0]) not in self.answers]
        if missing:
            raise LeftOut(self.answered(requests, missing), self.account(requests, missing))
        return [self.answers[squeeze(request.args[0])] for request in requests]

    def answered(self, requests: list[Instance], missing: list[Instance]) -> dict[str, list[int]]:
        """Return task -> numbers of the rows whose prompts all have a response.

        Raises:
            UserError: a task has no such row.
        """
        rows: defaultdict[str, set[int]] = defaultdict(set)
        for request in requests:
            rows[str(request.task_name)].add(int(request.doc_id or 0))
        for request in missing:
            rows[str(request.task_name)].discard(int(request.doc_id or 0))
        for task, found in rows.items():
            if not found:
                raise UserError(
                    f"{self.path} lacks a response to every prompt of {task}, such as {missing[0].args[0][:60]!r}: "
                    "add one row per prompt, with exactly that text"
                )
        return {task: sorted(found) for task, found in rows.items()}

    def account(self, requests: list[Instance], missing: list[Instance]) -> dict[str, Any]:
        """Return how many prompts have no response, and how many have one to nearly the same words only."""
        asked = {squeeze(request.args[0]) for request in requests}
        unused = [prompt for prompt in self.answers if prompt not in asked]
        prompts = [squeeze(request.args[0]) for request in missing]
        differing = [prompt for prompt in prompts if get_close_matches(prompt, unused, 1, ALIKE)]
        return {
            "prompts": len(requests),
            "missing": len(prompts) - len(differing),
            "differing": len(differing),
            "such_as": (differing or prompts)[0],
        }

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Raise: given responses have no log-likelihoods."""
        raise UserError(f"{requests[0].task_name} needs log-likelihoods, which {self.path} lacks: name a model")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Raise: given responses have no log-likelihoods."""
        raise UserError(f"{requests[0].task_name} needs log-likelihoods, which {self.path} lacks: name a model")


def squeeze(text: str) -> str:
    """Return a text with one space for each run of white space."""
    return " ".join(text.split())
