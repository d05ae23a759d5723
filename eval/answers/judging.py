"""Many questions to a judge: asked side by side, every verdict kept the moment it is there, resumed after a kill.

The verdicts of one judging are one file with a JSON object on each line. Its name is a digest of the judge, the
prompts and all texts that are judged, so that a file never mixes two judgings.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from eval.answers.concurrent import side_by_side
from eval.answers.endpoint import Endpoint, Reply, complete, host_class
from eval.console import console, progress
from recipes.config import UserError

MALFORMED = "malformed"  # a verdict of its own: no tie, no loss
ATTEMPTS = 3  # per question, where the judge's reply cannot be read
CHARACTERS_PER_TOKEN = 4  # of English; the estimate before judging knows no judge's tokenizer
Read = Callable[[Reply], Any]  # the verdict that a reply gives, or None where it gives none


@dataclass
class Judging:
    """The options of every suite that asks a judge."""

    judge: str = "???"  # the model's name at the endpoint
    url: str = "https://api.openai.com/v1"
    key: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    concurrency: int = 8  # questions under way at once
    timeout: float = 120.0  # seconds a question may take
    input_price: float | None = None  # dollars per million tokens
    output_price: float | None = None

    def court(self) -> Endpoint:
        """Return the endpoint to ask for verdicts."""
        return Endpoint(self.url, self.judge, True, self.key, self.concurrency, self.timeout)

    def dollars(self, tokens_in: int, tokens_out: int) -> float | None:
        """Return what tokens cost, or None where no prices were given."""
        if self.input_price is None or self.output_price is None:
            return None
        return (tokens_in * self.input_price + tokens_out * self.output_price) / 1e6


@dataclass(frozen=True)
class Question:
    """One request to the judge, under a name that is its own within the judging."""

    id: str
    messages: list[dict[str, str]]


def digest(*values: Any) -> str:
    """Return eight hexadecimal digits that stand for plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def judge_all(
    questions: list[Question], read: Read, file: Path, judging: Judging, **request: Any
) -> list[dict[str, Any]]:
    """Return a verdict for every question, in order; those in `file` are not asked again.

    A verdict has `id`, `verdict` (`MALFORMED` after all attempts), `attempts`, the reply's text and the
    tokens counted over all attempts (None where the endpoint counts none). `request` goes with every question.

    Raises:
        UserError: the endpoint fails for good; what was judged is kept.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with log(file) as (kept, lines):
        missing = [question for question in questions if question.id not in kept]
        announce(missing, len(questions), judging, request.get("max_tokens", 0))

        endpoint = judging.court()
        with progress(len(missing), f"judge  {judging.judge}") as advance:
            ask_one = partial(ask, endpoint, read, request)
            for _, verdict in side_by_side(ask_one, missing, endpoint.concurrency):
                lines.write(json.dumps(verdict, ensure_ascii=False) + "\n")
                lines.flush()
                kept[verdict["id"]] = verdict
                advance(1)
    return [kept[question.id] for question in questions]


@contextmanager
def log(file: Path) -> Iterator[tuple[dict[str, dict[str, Any]], IO[str]]]:
    """Open a file of verdicts to go on: what is in it by id, and the file, cut after its last whole line.

    Raises:
        UserError: another process judges into the same file, or a whole line of it is damaged.
    """
    with file.open("a+", encoding="utf-8") as lines:
        try:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is judging into {file}: wait for it, or stop it") from None
        whole = file.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]  # a kill may have torn the last line
        lines.truncate(len(whole))
        try:
            kept = {verdict["id"]: verdict for verdict in map(json.loads, whole.splitlines())}
            if not all({"verdict", "attempts", "model", "input_tokens"} <= verdict.keys() for verdict in kept.values()):
                raise KeyError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{file} is damaged, or no file of verdicts: remove it to judge anew") from None
        yield kept, lines


def ask(endpoint: Endpoint, read: Read, request: dict[str, Any], question: Question) -> dict[str, Any]:
    """Ask one question until the reply can be read, at most `ATTEMPTS` times."""
    replies: list[Reply] = []
    verdict = None
    while verdict is None and len(replies) < ATTEMPTS:
        if replies:
            time.sleep(2 ** len(replies) / 4)
        replies.append(complete(endpoint, question.messages, **request))
        verdict = read(replies[-1])
    counts = [(reply.input_tokens, reply.output_tokens) for reply in replies if reply.input_tokens is not None]
    tokens = [sum(column) for column in zip(*counts, strict=True)] if counts else [None, None]
    spent = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    kept = MALFORMED if verdict is None else verdict
    return {"id": question.id, "verdict": kept, "attempts": len(replies), **asdict(replies[-1]), **spent}


def announce(missing: list[Question], total: int, judging: Judging, most: int) -> None:
    """Say before asking how much will be asked, and what it will cost at most."""
    characters = sum(len(message["content"]) for question in missing for message in question.messages)
    tokens = characters // CHARACTERS_PER_TOKEN
    dollars = judging.dollars(tokens, most * len(missing))
    cost = "no prices given" if dollars is None else f"at most about ${dollars:.2f}"
    console.print(
        f" {total} questions to {judging.judge}, {len(missing)} still to ask: about {tokens:,} tokens in, "
        f"at most {most * len(missing):,} out; {cost}",
        soft_wrap=True,
    )


def account(verdicts: list[dict[str, Any]], judging: Judging, prompt: str) -> dict[str, Any]:
    """Return what belongs to every judged result: the judge, the prompt's version, what was counted and its cost."""
    counted = [verdict for verdict in verdicts if verdict["input_tokens"] is not None]
    tokens_in, tokens_out = (sum(verdict[name] for verdict in counted) for name in ("input_tokens", "output_tokens"))
    return {
        "judge": judging.judge,
        "judge_reported": sorted({verdict["model"] for verdict in verdicts if verdict["model"]}),
        "host": host_class(judging.url),
        "prompt": prompt,
        "questions": len(verdicts),
        "malformed": sum(verdict["verdict"] == MALFORMED for verdict in verdicts),
        "attempts": sum(verdict["attempts"] for verdict in verdicts),
        "input_tokens": tokens_in if counted else None,
        "output_tokens": tokens_out if counted else None,
        "uncounted": len(verdicts) - len(counted),
        "dollars": judging.dollars(tokens_in, tokens_out) if counted else None,
    }


def say_account(found: dict[str, Any]) -> None:
    """Print who judged, what was malformed and what was counted."""
    counted = "the endpoint counts no tokens"
    if found["input_tokens"] is not None:
        cost = "" if found["dollars"] is None else f", ${found['dollars']:.2f}"
        counted = f"{found['input_tokens']:,} tokens in, {found['output_tokens']:,} out{cost}"
    console.print(
        f"judge {found['judge']} ({', '.join(found['judge_reported']) or 'unnamed'}, {found['host']}), prompt "
        f"{found['prompt']}: {found['questions']} verdicts, {found['malformed']} malformed; {counted}",
        soft_wrap=True,
    )
