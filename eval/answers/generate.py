"""Generate responses: every evaluation goes through here.

A prompt is rendered and tokenized by the code that training uses (recipes.data.chat). Transformers generates, in this
process, unless an OpenAI-compatible endpoint is named (eval.answers.endpoint). Responses are cached by content in
`eval/answers.jsonl` of the stage directory, line by line: a killed evaluation resumes, and evaluations share responses
to the same prompt.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from eval.answers.decode import decode
from eval.answers.endpoint import Endpoint, answers_from
from eval.answers.load import load, load_renderer, prompt_ids, source
from eval.answers.store import Answer, Kept, Sampling, content_key
from recipes.config import UserError, done
from recipes.data.chat import Message

__all__ = ["Answer", "Sampling", "answer", "answer_prompts"]


def answer(
    directory: Path,
    dialogues: list[list[Message]],
    sampling: Sampling,
    advance: Callable[[int], None],
    endpoint: Endpoint | None = None,
) -> list[list[Answer]]:
    """Return `sampling.samples` responses to each dialogue: messages, of which the last is the user's or a tool's.

    `advance` is called with the number of new responses. Equal prompts get equal responses. An endpoint that chats gets
    the dialogues as they are; `directory` is then only where the responses are cached.

    Raises:
        UserError: the model was removed, the template rejects a dialogue, or the endpoint fails for good.
    """
    prompts: Any = dialogues if endpoint and endpoint.chat else prompt_ids(load_renderer(directory), dialogues)
    return answer_prompts(directory, prompts, sampling, advance, endpoint)


def answer_prompts(
    directory: Path,
    prompts: list[Any],
    sampling: Sampling,
    advance: Callable[[int], None],
    endpoint: Endpoint | None = None,
) -> list[list[Answer]]:
    """Return responses as `answer` does, to tokenized prompts, each a list of ids."""
    kept = Kept(directory / "eval" / "answers.jsonl")
    who = identity(directory, endpoint)
    keys = [[content_key(who, prompt, sampling, sample) for sample in range(sampling.samples)] for prompt in prompts]
    missing = {
        key: (prompt, sample)
        for prompt, row in zip(prompts, keys, strict=True)
        for sample, key in enumerate(row)
        if key not in kept.found
    }
    advance(len(prompts) * sampling.samples - len(missing))
    if missing:
        names, asked = list(missing), list(missing.values())
        for place, found in produce(directory, asked, sampling, endpoint):
            kept.add(names[place], found)
            advance(1)
    return [[kept.found[key] for key in row] for row in keys]


def identity(directory: Path, endpoint: Endpoint | None) -> str:
    """Return the identity of the model that responds: the stage and its record, and the endpoint.

    Raises:
        UserError: the stage is not trained yet.
    """
    names = [endpoint.url, endpoint.model] if endpoint else []
    if endpoint is None or not endpoint.chat:
        if not done(directory):
            raise UserError(f"{directory} has no record.json: finish its training first, with the same command")
        record = hashlib.sha256((directory / "record.json").read_bytes()).hexdigest()
        names = [directory.name, record, *names]
    return " ".join(names)


def produce(
    directory: Path, asked: list[tuple[Any, int]], sampling: Sampling, endpoint: Endpoint | None
) -> Iterator[tuple[int, Answer]]:
    """Yield the index and the response of each prompt and sample as they complete."""
    if endpoint:
        stops = [] if endpoint.chat else load_renderer(directory).stops
        served = endpoint if endpoint.model else replace(endpoint, model=source(directory)[0])
        yield from answers_from(served, asked, stops, sampling)
        return
    yield from spoken(*load(directory), asked, sampling)


def spoken(
    model: Any, tokenizer: PreTrainedTokenizerBase, stops: list[int], asked: list[tuple[Any, int]], sampling: Sampling
) -> Iterator[tuple[int, Answer]]:
    """Yield the index and the response, as text, of each prompt and sample as a loaded model generates them."""
    for place, ids, stopped in decode(model, stops, asked, sampling):
        said = ids[:-1] if stopped else ids
        yield place, Answer(str(tokenizer.decode(said, skip_special_tokens=True)), len(said), stopped, ids)
