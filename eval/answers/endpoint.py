"""Any OpenAI-compatible endpoint, asked for answers or for a judge's verdicts: many at once, and with patience.

The `openai` package retries dropped connections, time-outs, rate limits (as long as the server asks) and failures of
the server; bodies that are no completion are retried here. vLLM is reached through this: `vllm serve
runs/<model>/<dataset>/<stage>/model` in an environment of its own, and `endpoint=http://localhost:8000/v1` here. It is
sent token ids, so that it answers the very prompts of training.

The key comes from an environment variable; it is in no file, no message and no log of ours.
"""

import ipaddress
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from eval.answers.concurrent import side_by_side
from eval.answers.store import Answer, Sampling
from recipes.config import UserError

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds between attempts, doubled each time, as the `openai` package has it


@dataclass(frozen=True)
class Endpoint:
    """Where an API is, and how it is to be treated."""

    url: str  # with its version: http://localhost:8000/v1
    model: str = ""  # its name there; empty: the path of the stage's model, as `vllm serve` names it
    chat: bool = False  # send messages, which the server's own template renders; else token ids
    key: str = "OPENAI_API_KEY"  # the environment variable that holds the key, which is kept nowhere
    concurrency: int = 8  # requests under way at once
    timeout: float = 600.0  # seconds of one attempt
    attempts: int = 8  # of one request

    def __post_init__(self) -> None:
        """Check what can be wrong before anything is asked.

        Raises:
            UserError: the address is none or holds a secret, nobody is named to chat with, or a number is too small.
        """
        try:
            address = urlsplit(self.url)
            whole = address.scheme in ("http", "https") and address.hostname and (address.port or 1)
        except ValueError:  # of an address or port that cannot be
            whole = False
        if "@" in self.url or "?" in self.url:
            raise UserError(f"an endpoint's address must hold no password or query: export {self.key} instead")
        if not whole:
            raise UserError(f"{self.url} is no endpoint: give its whole address, such as http://localhost:8000/v1")
        if self.chat and not self.model:
            raise UserError(f"{self.url} chats as many models: name one, served=<model>")
        if self.concurrency < 1 or self.timeout <= 0:
            raise UserError("concurrency must be 1 at least and timeout above 0 seconds")


@dataclass
class Answering:
    """The options of every suite whose answers may come from an endpoint."""

    endpoint: str = ""  # its address; empty: Transformers answers, in this process
    served: str = ""  # what the endpoint calls the model
    chat: bool = False

    def elsewhere(self) -> Endpoint | None:
        """Return the endpoint that the options name, if they do.

        Raises:
            UserError: see `Endpoint`.
        """
        return Endpoint(self.endpoint, self.served, self.chat) if self.endpoint else None

    def names_of_endpoint(self) -> list[str]:
        """Return what tells its answers from others, nothing where Transformers answers."""
        return [self.endpoint, self.served, str(self.chat)] if self.endpoint else []


@dataclass(frozen=True)
class Reply:
    """What an endpoint said: its text, the log-probs where they were asked for, and what it counted."""

    text: str
    stopped: bool = True  # by itself, not cut off at the limit
    logprobs: dict[str, Any] | None = None
    model: str | None = None  # as the endpoint calls it, often with a date
    input_tokens: int | None = None
    output_tokens: int | None = None


def answers_from(
    endpoint: Endpoint, asked: list[tuple[Any, int]], stops: list[int], sampling: Sampling
) -> Iterator[tuple[int, Answer]]:
    """Yield place and answer of each prompt (ids, or messages) and sample, as they come.

    Tokens are as the endpoint counts them; vLLM counts the stop. Seeds are sent, and mean what the endpoint makes of
    them. Beside OpenAI's own parameters, a prompt of ids brings vLLM's: whoever takes ids takes these.

    Raises:
        UserError: see `complete`; or the endpoint counts no tokens.
    """
    request: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "top_p": 1.0}
    if not endpoint.chat:  # vLLM would take the first two from the model's generation_config.json
        request["extra_body"] = {"top_k": -1, "repetition_penalty": 1.0, "stop_token_ids": stops}

    def ask(one: tuple[Any, int]) -> Answer:
        prompt, sample = one
        reply = complete(endpoint, prompt, seed=(1_000_003 * sampling.seed + sample) % 2**31, **request)
        if reply.output_tokens is None:
            raise UserError(f"{endpoint.url} counts no tokens, and lengths are reported: let it send `usage`")
        return Answer(reply.text, reply.output_tokens, reply.stopped)

    return side_by_side(ask, asked, endpoint.concurrency)


def complete(endpoint: Endpoint, prompt: Any, **request: Any) -> Reply:
    """Ask once, with back-off: messages of an endpoint that chats, else the ids of a prompt.

    `request` are the API's own parameters (`temperature`, `max_tokens`, …).

    Raises:
        UserError: the key is missing or refused, or the endpoint still fails after all attempts.
    """
    import openai  # takes a second, which a table of old results need not wait for

    api: Any = client(endpoint)
    create = api.chat.completions.create if endpoint.chat else api.completions.create
    sent = {"model": endpoint.model, "messages" if endpoint.chat else "prompt": prompt, **request}
    problem = ""
    for attempt in range(endpoint.attempts):
        time.sleep(min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) if attempt else 0)
        try:
            answer = create(**sent)
        except (openai.APIResponseValidationError, ValueError) as error:  # the body is no JSON
            problem = type(error).__name__
            continue
        except openai.OpenAIError as error:
            raise UserError(refusal(endpoint, " ".join(str(error).split())[:300])) from None
        try:
            return read_reply(endpoint, answer)
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # it is some other JSON
            problem = type(error).__name__
    raise UserError(refusal(endpoint, f"{endpoint.attempts} malformed responses, the last with {problem}"))


def read_reply(endpoint: Endpoint, answer: Any) -> Reply:
    """Return what a response holds; of one that is no completion, Python's own errors come."""
    choice, usage = answer.choices[0], answer.usage
    said = choice.message.content if endpoint.chat else choice.text
    logprobs = choice.logprobs.model_dump() if endpoint.chat and choice.logprobs else None
    return Reply(
        text=without_key(endpoint, said or ""),
        stopped=choice.finish_reason == "stop",
        logprobs=logprobs,
        model=answer.model,
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=int(usage.completion_tokens) if usage else None,
    )


def refusal(endpoint: Endpoint, reason: str) -> str:
    """Say that an endpoint does not answer, and what to look at."""
    said = without_key(endpoint, reason).rstrip(".")
    return (
        f"{endpoint.model} at {endpoint.url} does not answer ({said}): see whether it runs and serves that model, and "
        f"takes the key in ${endpoint.key}; then the same command goes on"
    )


CLIENTS: dict[Endpoint, Any] = {}


def close() -> None:
    """Close the connections to all endpoints."""
    while CLIENTS:
        CLIENTS.popitem()[1].close()


def client(endpoint: Endpoint) -> Any:
    """Return the one client of an endpoint: its connections are shared by all threads.

    Raises:
        UserError: the key cannot be one, or there is none for a public host.
    """
    import openai

    if endpoint in CLIENTS:
        return CLIENTS[endpoint]
    key = secret(endpoint)
    if not key and host_class(endpoint.url) not in ("this machine", "private network"):
        raise UserError(f"${endpoint.key} is not set: put the key there that {host_class(endpoint.url)} knows")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"${endpoint.key} holds characters that no key has: put the key there, and nothing else")
    retries = endpoint.attempts - 1
    made = openai.OpenAI(base_url=endpoint.url, api_key=key or "none", timeout=endpoint.timeout, max_retries=retries)
    return CLIENTS.setdefault(endpoint, made)


def secret(endpoint: Endpoint) -> str:
    """Return the key, which nothing may print or write."""
    return os.environ.get(endpoint.key, "").strip()


def without_key(endpoint: Endpoint, text: str) -> str:
    """Return what a server said without the key, which some repeat."""
    key = secret(endpoint)
    return text.replace(key, "***") if key else text


def host_class(url: str) -> str:
    """Say what kind of host answers, without naming anybody's machine."""
    host = urlsplit(url).hostname or ""
    if host == "api.openai.com":
        return host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        local, private = host == "localhost", "." not in host
    else:
        local, private = address.is_loopback, address.is_private
    return "this machine" if local else "private network" if private else "public host"
