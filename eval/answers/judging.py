"""Many questions to a judge: asked concurrently, with every verdict written at once; resumes after a kill.

The verdicts of one judging are a file with one JSON object per line. Its name is a digest of the judge, the prompts and
all judged texts, so that a file never mixes two judgings.
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
from recipes.config import UserError
from recipes.system.commands import output, progress

MALFORMED = "malformed"  # a separate verdict: neither a tie nor a loss
ATTEMPTS = 3  # per question, if the judge's reply cannot be parsed
CHARACTERS_PER_TOKEN = 4  # in English; the estimate before judging does not know the judge's tokenizer
Read = Callable[[Reply], Any]  # the verdict of a reply, or None if it has none


@dataclass
class Judging:
    """The options of every suite that queries a judge."""

    judge: str = "???"  # the model's name at the endpoint
    url: str = "https://api.openai.com/v1"
    key: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    concurrency: int = 8  # questions in flight
    timeout: float = 120.0  # seconds for one question
    input_price: float | None = None  # dollars per million tokens
    output_price: float | None = None

    def court(self) -> Endpoint:
        """Return the judge's endpoint."""
        return Endpoint(self.url, self.judge, True, self.key, self.concurrency, self.timeout)

    def dollars(self, tokens_in: int, tokens_out: int) -> float | None:
        """Return what tokens cost, or None if no prices were given."""
        if self.input_price is None or self.output_price is None:
            return None
        return (tokens_in * self.input_price + tokens_out * self.output_price) / 1e6


@dataclass(frozen=True)
class Question:
    """One request to the judge; its name is unique within the judging."""

    id: str
    messages: list[dict[str, str]]


def digest(*values: Any) -> str:
    """Return a digest of plain values, eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def weight_files(directory: Path) -> list[str]:
    """Return what tells a model from another in the same directory; nothing of a stage, which is never overwritten."""
    if (directory / "config.yaml").is_file():
        return []
    files = sorted(file for ending in ("safetensors", "bin") for file in directory.glob(f"*.{ending}"))
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def judge_all(
    questions: list[Question], read: Read, file: Path, judging: Judging, **request: Any
) -> list[dict[str, Any]]:
    """Return a verdict for every question, in order; those in `file` are reused.

    A verdict has `id`, `verdict` (`MALFORMED` after all attempts), `attempts`, the reply's text and the tokens over all
    attempts (None if the endpoint counts none). `request` is sent with every question.

    Raises:
        UserError: the endpoint fails for good; verdicts so far are kept.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with log(file) as (kept, lines):
        missing = [question for question in questions if question.id not in kept]
        endpoint = judging.court()
        with progress(len(missing), f"judge  {judging.judge}") as advance:
            ask_one = partial(ask, endpoint, read, request)
            for _, verdict in side_by_side(ask_one, missing, endpoint.concurrency):
                lines.write(json.dumps(verdict, ensure_ascii=False) + "\n")
                lines.flush()
                kept[verdict["id"]] = verdict
                advance(1)
    return [kept[question.id] for question in questions]


def unanswered(questions: list[Question], file: Path) -> list[Question]:
    """Return the questions that have no verdict in a file.

    Raises:
        UserError: another process judges into the file, or it is damaged.
    """
    if not file.is_file():
        return questions
    with log(file) as (kept, _):
        return [question for question in questions if question.id not in kept]


@contextmanager
def log(file: Path) -> Iterator[tuple[dict[str, dict[str, Any]], IO[str]]]:
    """Open a file of verdicts to resume: its verdicts by id, and the file, truncated after its last whole line.

    Raises:
        UserError: another process judges into the same file, or a whole line is damaged.
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
            raise UserError(f"{file} is damaged, or no file of verdicts: remove it to judge again") from None
        yield kept, lines


def ask(endpoint: Endpoint, read: Read, request: dict[str, Any], question: Question) -> dict[str, Any]:
    """Ask one question until the reply can be parsed, at most `ATTEMPTS` times."""
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
    """Print, before asking, how many questions there are in all, and what the missing ones cost at most."""
    characters = sum(len(message["content"]) for question in missing for message in question.messages)
    tokens = characters // CHARACTERS_PER_TOKEN
    dollars = judging.dollars(tokens, most * len(missing))
    cost = "no prices given" if dollars is None else f"at most about ${dollars:.2f}"
    output.print(
        f" {total} questions to {judging.judge}, {len(missing)} still to ask: about {tokens:,} tokens in, "
        f"at most {most * len(missing):,} out; {cost}",
        soft_wrap=True,
    )


def account(verdicts: list[dict[str, Any]], judging: Judging, prompt: str) -> dict[str, Any]:
    """Return the account of a judged result: the judge, the prompt's version, token counts and cost."""
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
    """Print the judge, the number of malformed verdicts and the token counts."""
    counted = "the endpoint counts no tokens"
    if found["input_tokens"] is not None:
        cost = "" if found["dollars"] is None else f", ${found['dollars']:.2f}"
        counted = f"{found['input_tokens']:,} tokens in, {found['output_tokens']:,} out{cost}"
    output.print(
        f"judge {found['judge']} ({', '.join(found['judge_reported']) or 'unnamed'}, {found['host']}), prompt "
        f"{found['prompt']}: {found['questions']} verdicts, {found['malformed']} malformed; {counted}",
        soft_wrap=True,
    )
