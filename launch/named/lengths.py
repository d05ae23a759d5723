"""How long the pairs of a data set are in a model's tokens, from a sample, in a second and without PyTorch."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from launch.named.profile import profile_of
from recipes.data.judged import partnered
from recipes.data.messages import Malformed, Message
from recipes.data.schemas import Pair, Unusable, read_pair
from recipes.system.paths import expanded

Counter = Callable[[str], float]
PARTS = ("prompt", "chosen", "rejected")
BYTES = 4  # of a token, in English
TURN = 5  # tokens that a chat template puts around a turn, about


def guess(text: str) -> float:
    """Return about how many tokens a text has, where the tokenizer is not at hand."""
    return len(text.encode()) / BYTES


def counter_of(model: str) -> Counter | None:
    """Return what counts a text's tokens as a profile's, a directory's or a cached Hub model does; None if not here."""
    from huggingface_hub import try_to_load_from_cache
    from tokenizers import Tokenizer

    values = (profile_of("model", model) or {}).get("model", {})
    name, revision = values.get("model_name_or_path", model), values.get("model_revision")
    path = expanded(name) / "tokenizer.json"
    if not path.is_file() and name.count("/") == 1:
        cached = try_to_load_from_cache(name, "tokenizer.json", revision=revision)
        path = Path(cached) if isinstance(cached, str) else path
    if not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # the library raises no kind of its own; loading the model says what is wrong
        return None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def pairs_of(rows: Sequence[dict[str, Any]], read: Callable[[dict[str, Any]], Pair] = read_pair) -> list[Pair]:
    """Return the rows that are pairs, or what `read` reads; the doctor says what is wrong with the others."""
    found = []
    whole = (row for _, row in partnered(rows) if isinstance(row, dict)) if read is read_pair else rows
    for row in whole:
        try:
            found.append(read(row))
        except (Malformed, Unusable):
            continue
    return found


def lengths(pairs: Sequence[Pair], count: Counter) -> list[tuple[float, float, float]]:
    """Return the tokens of every pair's prompt and responses, about."""
    return [(prompt(pair.prompt, count), count(pair.chosen) + 1, count(pair.rejected) + 1) for pair in pairs]


def prompt(messages: Sequence[Message], count: Counter) -> float:
    """Return about how many tokens a prompt has, with what the chat template adds."""
    return sum(count(str(message["content"])) + TURN for message in messages) + TURN


def total(estimates: Iterable[dict[str, float]]) -> str:
    """Return the estimate of several data sets together, as an option's value."""
    parts = list(estimates)
    rows = sum(part["rows"] for part in parts)
    tokens = {name: round(sum(part["rows"] * part[name] for part in parts) / rows) for name in PARTS}
    return "{" + ",".join(f"{name}:{value}" for name, value in {"rows": rows, **tokens}.items()) + "}"


def means(sizes: Sequence[tuple[float, float, float]]) -> tuple[int, int, int]:
    """Return the mean of each part, at least one token."""
    prompts, chosen, rejected = (max(1, round(fmean(part))) for part in zip(*sizes, strict=True))
    return prompts, chosen, rejected
