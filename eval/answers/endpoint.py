"""Query any OpenAI-compatible endpoint, for responses or for a judge's verdicts: concurrently, with retries.

The `openai` package retries dropped connections, time-outs, rate limits (for as long as the server asks) and server
errors. We retry bodies that are no completion. For vLLM, run `vllm serve runs/<model>/<dataset>/<stage>/model` in its
own environment, and give `endpoint=http://localhost:8000/v1` here. It is sent token ids, exactly those of the prompts
in training.

The key comes from an environment variable; it is never written to a file, a message or a log.
"""

import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from eval.answers.concurrent import side_by_side
from eval.answers.store import Answer, Sampling, draw_key
from recipes.config import UserError

REACHING = 5.0  # seconds to connect
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds between attempts, doubled each time, as in the `openai` package


@dataclass(frozen=True)
class Endpoint:
    """The address of an API, and how to query it."""

    url: str  # with the version: http://localhost:8000/v1
    model: str = ""  # the model's name there; empty: the path of the stage's model, as `vllm serve` names it
    chat: bool = False  # send messages, for the server's own template; else token ids
    key: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    concurrency: int = 8  # requests in flight
    timeout: float = 600.0  # seconds of one attempt
    attempts: int = 8  # of one request

    def __post_init__(self) -> None:
        """Check the values before the first request.

        Raises:
            UserError: the address is invalid or contains a secret, no model is named to chat with, or a number is too
            small.
        """
        try:
            address = urlsplit(self.url)
            whole = address.scheme in ("http", "https") and address.hostname and (address.port or 1)
        except ValueError:  # for an impossible address or port
            whole = False
        if "@" in self.url or "?" in self.url:
            raise UserError(f"an endpoint's address must not contain a password or query: export {self.key} instead")
        if not whole:
            raise UserError(f"{self.url} is no endpoint: give the full address, such as http://localhost:8000/v1")
        if self.chat and not self.model:
            raise UserError(f"{self.url} serves several models: name one with served=<model>")
        if self.concurrency < 1 or self.timeout <= 0:
            raise UserError("concurrency must be at least 1 and timeout above 0 seconds")


@dataclass
class Answering:
    """The options of every suite whose responses may come from an endpoint."""

    endpoint: str = ""  # its address; empty: Transformers generates, in this process
    served: str = ""  # the model's name at the endpoint
    chat: bool = False

    def elsewhere(self) -> Endpoint | None:
        """Return the endpoint that the options name, if any.

        Raises:
            UserError: see `Endpoint`.
        """
        return Endpoint(self.endpoint, self.served, self.chat) if self.endpoint else None

    def names_of_endpoint(self) -> list[str]:
        """Return the words that mark an endpoint's responses in a file's name; empty for Transformers."""
        return [self.endpoint, self.served, str(self.chat)] if self.endpoint else []


@dataclass(frozen=True)
class Reply:
    """An endpoint's response: text, log-probs if requested, and token counts."""

    text: str
    stopped: bool = True  # with a stop token, not truncated at the limit
    logprobs: dict[str, Any] | None = None
    model: str | None = None  # the endpoint's name for it, often with a date
    input_tokens: int | None = None
    output_tokens: int | None = None


def answers_from(
    endpoint: Endpoint, asked: list[tuple[Any, int]], stops: list[int], sampling: Sampling
) -> Iterator[tuple[int, Answer]]:
    """Yield index and response of each prompt (ids, or messages) and sample, as they complete.

    The endpoint counts the tokens; vLLM includes the stop. Each prompt and sample sends its own seed, because responses
    drawn with the same random numbers err alike; what a seed does is up to the endpoint. With a prompt of ids we send
    vLLM's parameters besides OpenAI's: an endpoint that takes ids takes these too.

    Raises:
        UserError: see `complete`; or the endpoint counts no tokens.
    """
    request: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "top_p": 1.0}
    if not endpoint.chat:  # vLLM would take the first two from the model's generation_config.json
        request["extra_body"] = {"top_k": -1, "repetition_penalty": 1.0, "stop_token_ids": stops}

    def ask(one: tuple[Any, int]) -> Answer:
        prompt, sample = one
        reply = complete(endpoint, prompt, seed=draw_key(prompt, sample, sampling.seed) % 2**31, **request)
        if reply.output_tokens is None:
            raise UserError(f"{endpoint.url} reports no token counts: configure it to send `usage`")
        return Answer(reply.text, reply.output_tokens, reply.stopped)

    return side_by_side(ask, asked, endpoint.concurrency)


def complete(endpoint: Endpoint, prompt: Any, **request: Any) -> Reply:
    """Send one request, with back-off: messages for an endpoint that chats, else a prompt's ids.

    `request` has the API's own parameters (`temperature`, `max_tokens`, …).

    Raises:
        UserError: the key is missing or rejected, or the endpoint still fails after all attempts.
    """
    import openai  # takes a second to import, and a table of old results does not need it

    api: Any = client(endpoint)
    create = api.chat.completions.create if endpoint.chat else api.completions.create
    sent = {"model": endpoint.model, "messages" if endpoint.chat else "prompt": prompt, **request}
    problem = ""
    for attempt in range(endpoint.attempts):
        time.sleep(min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) if attempt else 0)
        try:
            answer = create(**sent)
        except (openai.APIResponseValidationError, ValueError) as error:  # the body is not JSON
            problem = type(error).__name__
            continue
        except openai.OpenAIError as error:
            raise UserError(refusal(endpoint, " ".join(str(error).split())[:300])) from None
        try:
            return read_reply(endpoint, answer)
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # it is JSON, but no completion
            problem = type(error).__name__
    raise UserError(refusal(endpoint, f"{endpoint.attempts} malformed responses, the last with {problem}"))


def read_reply(endpoint: Endpoint, answer: Any) -> Reply:
    """Return the content of a response; one that is no completion raises Python's own errors."""
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
    """Return the error for an endpoint that fails, with what to check."""
    said = without_key(endpoint, reason).rstrip(".")
    return (
        f"{endpoint.model} at {endpoint.url} does not respond ({said}): check that it runs and serves that model, and "
        f"accepts the key in ${endpoint.key}; then run the same command to resume"
    )


CLIENTS: dict[Endpoint, Any] = {}


def close() -> None:
    """Close the connections to all endpoints."""
    while CLIENTS:
        CLIENTS.popitem()[1].close()


def client(endpoint: Endpoint) -> Any:
    """Return the client of an endpoint, whose connections all threads share.

    Raises:
        UserError: the key is malformed, or a public host has none.
    """
    import openai

    if endpoint in CLIENTS:
        return CLIENTS[endpoint]
    key = secret(endpoint)
    if not key and host_class(endpoint.url) not in ("this machine", "private network"):
        raise UserError(f"${endpoint.key} is not set: export the key for the {host_class(endpoint.url)}")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"${endpoint.key} contains characters that no key has: export only the key")
    reach(endpoint)
    retries = endpoint.attempts - 1
    made = openai.OpenAI(base_url=endpoint.url, api_key=key or "none", timeout=endpoint.timeout, max_retries=retries)
    return CLIENTS.setdefault(endpoint, made)


def reach(endpoint: Endpoint) -> None:
    """Connect once before the first request, whose retries would take most of a minute; a proxy is left to the client.

    Raises:
        UserError: there is no such host, or nothing listens there.
    """
    address = urlsplit(endpoint.url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if address.scheme in getproxies() and not proxy_bypass(host):
        return
    try:
        socket.create_connection((host, port), REACHING).close()
    except OSError as error:
        raise UserError(refusal(endpoint, error.strerror or str(error))) from None


def secret(endpoint: Endpoint) -> str:
    """Return the key; never print or write it."""
    return os.environ.get(endpoint.key, "").strip()


def without_key(endpoint: Endpoint, text: str) -> str:
    """Return a server's message without the key, which some servers repeat."""
    key = secret(endpoint)
    return text.replace(key, "***") if key else text


def host_class(url: str) -> str:
    """Return the kind of host, without naming a machine."""
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
