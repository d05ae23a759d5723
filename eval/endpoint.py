"""Answers from any OpenAI-compatible endpoint: bounded concurrency, and patience with what fails on the way.

vLLM is reached through this: `vllm serve runs/<model>/<dataset>/<stage>/model` in an environment of its own, and
`endpoint=http://localhost:8000/v1` here. It is sent token ids, so that it answers the very prompts of training.

The key comes from an environment variable; it is in no file, no message and no log of ours.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx2

from eval.answers import Answer, Sampling
from recipes.config import UserError

Read = TypeVar("Read")
LATER = {408, 409, 425, 429}  # statuses that may be better next time, as all from 500 on
LONGEST_WAIT = 30.0  # seconds


@dataclass(frozen=True)
class Endpoint:
    """Where an API is, and how it is to be treated."""

    base_url: str  # with its version: http://localhost:8000/v1
    model: str = ""  # its name there; empty: the path of the stage's model, as `vllm serve` names it
    chat: bool = False  # send messages, which the server's own template renders; else token ids
    key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key, if there is one
    concurrency: int = 8  # requests under way at once
    attempts: int = 8  # of one request
    wait: float = 1.0  # seconds before the second attempt, doubled for each further one
    timeout: float = 600.0  # seconds of one attempt

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            UserError: it is no web address or holds a password, or nobody is named to chat with.
        """
        if not self.base_url.startswith(("http://", "https://")):
            raise UserError(f"endpoint={self.base_url}: give its address, such as http://localhost:8000/v1")
        if "@" in self.base_url:
            raise UserError(f"an endpoint's address must hold no password: export {self.key_variable} instead")
        if self.chat and not self.model:
            raise UserError(f"{self.base_url} chats as many models: name one, served=<model>")

    def serving(self, model: str) -> "Endpoint":
        """Return the same endpoint with another model named."""
        return replace(self, model=model)


def answers_from(
    endpoint: Endpoint, asked: list[tuple[Any, int]], stops: list[int], sampling: Sampling
) -> Iterator[tuple[int, Answer]]:
    """Yield place and answer of each prompt (ids, or messages) and sample, as they come.

    Tokens are as the endpoint counts them; vLLM counts the stop. Seeds are sent, and mean what the endpoint makes of
    them. Beside OpenAI's own parameters, a prompt of ids brings vLLM's: whoever takes ids takes these.

    Raises:
        UserError: see `post`.
    """
    path = "chat/completions" if endpoint.chat else "completions"
    bodies = [body(endpoint, prompt, sample, stops, sampling) for prompt, sample in asked]
    return post_all(endpoint, path, bodies, read_answer)


def body(endpoint: Endpoint, prompt: Any, sample: int, stops: list[int], sampling: Sampling) -> dict[str, Any]:
    """Return one request."""
    common = {"model": endpoint.model, "max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
    common |= {"top_p": 1.0, "seed": (1_000_003 * sampling.seed + sample) % 2**31}
    if endpoint.chat:
        return {**common, "messages": prompt}
    full = {"top_k": -1, "repetition_penalty": 1.0}  # else vLLM takes them from the model's generation_config.json
    return {**common, **full, "prompt": prompt, "stop_token_ids": stops}


def read_answer(response: dict[str, Any]) -> Answer:
    """Return the answer of a response to either kind of request; a malformed one raises what Python does."""
    (choice,) = response["choices"]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return Answer(text or "", int(response["usage"]["completion_tokens"]), choice["finish_reason"] == "stop")


def post_all(
    endpoint: Endpoint, path: str, bodies: list[dict[str, Any]], read: Callable[[dict[str, Any]], Read]
) -> Iterator[tuple[int, Read]]:
    """Send every body, at most `endpoint.concurrency` at once; yield its place and what `read` makes of the response.

    Raises:
        UserError: one failed for good; what is not under way yet is not sent.
    """
    key = os.environ.get(endpoint.key_variable)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    base = endpoint.base_url.rstrip("/")
    with httpx2.Client(base_url=base, headers=headers, timeout=endpoint.timeout) as client:
        pool = ThreadPoolExecutor(endpoint.concurrency)
        try:
            places = {pool.submit(post, client, endpoint, path, sent, read): n for n, sent in enumerate(bodies)}
            for future in as_completed(places):
                yield places[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def post(
    client: httpx2.Client,
    endpoint: Endpoint,
    path: str,
    sent: dict[str, Any],
    read: Callable[[dict[str, Any]], Read],
) -> Read:
    """Send one body until it is answered: rate limits, timeouts, lost connections and malformed responses are retried.

    Raises:
        UserError: the endpoint refuses the request, or every attempt failed.
    """
    problem = ""
    for attempt in range(endpoint.attempts):
        try:
            response = client.post(path, json=sent)
            if response.is_success:
                return read(response.json())
            problem = f"status {response.status_code}"
            if response.status_code not in LATER and response.status_code < 500:
                raise UserError(refusal(endpoint, response))
            asked = response.headers.get("retry-after", "")
        except (httpx2.TransportError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            problem, asked = type(error).__name__, ""
        delay = float(asked) if asked.isdigit() else endpoint.wait * 2**attempt
        time.sleep(min(delay, LONGEST_WAIT) if attempt + 1 < endpoint.attempts else 0)
    raise UserError(
        f"{endpoint.base_url} failed {endpoint.attempts} times, last with {problem}: see whether it runs and serves "
        f"{endpoint.model}; the same command goes on"
    )


def refusal(endpoint: Endpoint, response: httpx2.Response) -> str:
    """Say why an endpoint refuses; what it writes about a key is not repeated."""
    if response.status_code in (401, 403):
        return f"{endpoint.base_url} wants a key that it knows: export {endpoint.key_variable}"
    said = " ".join(response.text.split())[:200]
    key = os.environ.get(endpoint.key_variable)
    said = said.replace(key, "***") if key else said
    return f"{endpoint.base_url} refuses a request for {endpoint.model} (status {response.status_code}): {said}"
