"""A judge behind an OpenAI-compatible endpoint: asked with back-off, its tokens counted, its key in nothing written.

The `openai` package retries dropped connections, time-outs, rate limits (as long as the server asks) and failures
of the server; a reply that is none, or that cannot be read, is the caller's to retry.
"""

import ipaddress
import os
from dataclasses import dataclass
from functools import cache
from json import JSONDecodeError
from typing import Any
from urllib.parse import urlsplit

import openai

from recipes.config import UserError

RETRIES = 8  # half a second, doubled up to eight seconds, unless the server says how long
Message = dict[str, str]


@dataclass(frozen=True)
class Endpoint:
    """Where a judge answers. `key` names the environment variable that holds the key, which is kept nowhere."""

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    timeout: float = 120.0  # seconds


@dataclass(frozen=True)
class Reply:
    """What a judge said: its text, the log-probs where they were asked for, and what the endpoint counted."""

    text: str
    logprobs: dict[str, Any] | None = None
    model: str | None = None  # as the endpoint calls it, often with a date
    input_tokens: int | None = None
    output_tokens: int | None = None


def chat(endpoint: Endpoint, messages: list[Message], **options: Any) -> str:
    """Return the text that answers `messages`; see `complete`."""
    return complete(endpoint, messages, **options).text


def complete(endpoint: Endpoint, messages: list[Message], **options: Any) -> Reply:
    """Ask once, with back-off; `options` are the request's own (`temperature`, `max_tokens`, …).

    A body that is no completion is an empty text.

    Raises:
        UserError: the key is missing or refused, or the endpoint still fails after all retries.
    """
    try:
        answer: Any = client(endpoint).chat.completions.create(model=endpoint.model, messages=messages, **options)  # type: ignore[call-overload]
    except (openai.APIResponseValidationError, JSONDecodeError):
        return Reply("")
    except openai.OpenAIError as error:
        raise UserError(
            f"the judge {endpoint.model} ({host_class(endpoint.url)}) does not answer: "
            f"{without_key(endpoint, ' '.join(str(error).split())[:300])}; check url=, judge= and ${endpoint.key}, "
            "then the same command goes on"
        ) from None
    choices = getattr(answer, "choices", None)
    if not choices or not getattr(choices[0], "message", None):
        return Reply("")
    logprobs = choices[0].logprobs
    return Reply(
        text=without_key(endpoint, choices[0].message.content or ""),
        logprobs=logprobs.model_dump() if logprobs else None,
        model=answer.model,
        input_tokens=answer.usage.prompt_tokens if answer.usage else None,
        output_tokens=answer.usage.completion_tokens if answer.usage else None,
    )


@cache
def client(endpoint: Endpoint) -> openai.OpenAI:
    """Return the one client of an endpoint: its connections are shared by all threads.

    Raises:
        UserError: there is no key for an endpoint on another machine, or the URL is none.
    """
    if urlsplit(endpoint.url).scheme not in ("http", "https"):
        raise UserError(f"url={endpoint.url}: give the whole address, such as http://localhost:8000/v1")
    key = secret(endpoint)
    if not key and host_class(endpoint.url) != "this machine":
        raise UserError(f"${endpoint.key} is not set: put the judge's key there, or name another variable with key=…")
    return openai.OpenAI(base_url=endpoint.url, api_key=key or "none", timeout=endpoint.timeout, max_retries=RETRIES)


def secret(endpoint: Endpoint) -> str:
    """Return the key, which nothing may print or write."""
    return os.environ.get(endpoint.key, "").strip()


def without_key(endpoint: Endpoint, text: str) -> str:
    """Return what a server said without the key, which some repeat."""
    key = secret(endpoint)
    return text.replace(key, "***") if key else text


def host_class(url: str) -> str:
    """Say what kind of host judged, without naming anybody's machine."""
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
