"""A model's stop tokens and pad token, from what its files say and from what its chat template writes."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from launch.named.files import ModelFiles
from recipes.data.header import header

ANSWER = "\ufdd0answer\ufdd1"  # in no template
PADS = (r"\bpad(ding)?\b", r"reserved|unused|dummy|extra", r"\bunk\b")  # names of tokens to pad with, the best first
NO_TEXT = "ÿ"  # how a vocabulary of bytes, as GPT-2's, spells byte 255, which UTF-8 never has
GENERATION = re.compile(r"(\{%-?\s*)(end)?generation(\s*-?%\})")  # Transformers' tag around what a model writes
CHATML = ("<|im_start|>", "<|im_end|>")
LLAMA_3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>")
SHIPPED = {"chatml": CHATML, "llama-3": LLAMA_3, "gemma": GEMMA}  # conf/chat_template, by the tokens that they need


@dataclass
class Tokens:
    """What was found; `doubts` are lines for the user."""

    template: str | None  # a name in conf/chat_template; None: the model's own
    stops: list[str]  # the first one ends a turn
    pad: str | None  # None: the user must name one
    doubts: list[str] = field(default_factory=list)


def tokens_of(files: ModelFiles, shipped: dict[str, str]) -> Tokens:
    """Return a model's template, stop tokens and pad token; `shipped` are the texts of conf/chat_template."""
    added = added_tokens(files)
    template, doubts = choose_template(files, added)
    text = shipped[template] if template else files.template or ""
    stops, more = find_stops(files, text, added)
    pad, last = find_pad(files, stops, added)
    return Tokens(template, stops, pad, [*doubts, *more, *last, *find_header(files, text)])


def added_tokens(files: ModelFiles) -> dict[int, str]:
    """Return id -> text of the tokens that are no pieces of ordinary text."""
    listed = {token["id"]: token["content"] for token in files.tokenizer.get("added_tokens", [])}
    decoder = files.special.get("added_tokens_decoder") or {}
    return listed | {int(number): text_of(token) or "" for number, token in decoder.items()}


def text_of(token: Any) -> str | None:
    """Return a token's text, which some files wrap in an object."""
    return token.get("content") if isinstance(token, dict) else token


def choose_template(files: ModelFiles, added: dict[int, str]) -> tuple[str | None, list[str]]:
    """Return the name of a shipped template for a model without one, by the tokens that it has; None: its own."""
    if files.template:
        return None, []
    known = set(added.values())
    name = next((name for name, needed in SHIPPED.items() if known >= {*needed}), "zephyr")
    return name, [f"it has no chat template, so it is taken for a base model and gets {name}'s"]


def render(template: str, files: ModelFiles, messages: list[dict[str, str]], ask: bool) -> str:
    """Return messages as a chat template writes them.

    Raises:
        TemplateError: the template rejects them, or is damaged.
    """
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = reject
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    named = {name: text_of(files.special.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    given = {name: token for name, token in named.items() if token is not None}
    plain = GENERATION.sub(lambda tag: f"{tag[1]}{'endif' if tag[2] else 'if true'}{tag[3]}", template)
    return environment.from_string(plain).render(messages=messages, add_generation_prompt=ask, **given)


def reject(message: str) -> None:
    """Do what templates ask for with `raise_exception`."""
    raise TemplateError(message)


def turn_end(template: str, files: ModelFiles, added: dict[int, str]) -> str | None:
    """Return the token that the template writes at the end of a response; None if it writes none.

    Raises:
        TemplateError: the template rejects a question and its answer.
    """
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": ANSWER}]
    after = render(template, files, messages, ask=False).partition(ANSWER)[2]
    found = re.search("|".join(map(re.escape, sorted(filter(None, added.values()), key=len, reverse=True))), after)
    return found[0] if found and found[0] else None


def find_stops(files: ModelFiles, template: str, added: dict[int, str]) -> tuple[list[str], list[str]]:
    """Return the stop tokens, the end of a turn first, and doubts."""
    doubts = []
    try:
        end = turn_end(template, files, added)
    except Exception as error:  # a template is a program, and raises what it likes
        end = None
        doubts.append(f"its chat template rejects a question with its answer ({' '.join(str(error).split())[:80]})")
    own = own_stops(files, added)
    if end and own and end not in own and files.template:
        doubts.append(
            f"its template ends a turn with {end}, but it stops at {', '.join(own)}: all of them are stops here"
        )
    if end is None and own and not doubts:
        doubts.append(f"its template writes no token at a turn's end, so {own[0]} is added there")
    if not (end or own):
        doubts.append("no stop token is given anywhere: add model.stop_tokens=['<token>']")
    return list(dict.fromkeys([*([end] if end else []), *own])), doubts


def find_header(files: ModelFiles, template: str) -> list[str]:
    """Return the doubt about a template that ignores `add_generation_prompt`."""
    found = header(partial(render, template, files))
    return [f"its chat template ignores add_generation_prompt: prompts here end with its {found!r}"] if found else []


def own_stops(files: ModelFiles, added: dict[int, str]) -> list[str]:
    """Return the tokens at which a model says that it stops, and the tokenizer's EOS."""
    given = files.generation.get("eos_token_id", files.config.get("eos_token_id"))
    numbers: list[Any] = given if isinstance(given, list) else [given]
    eos = text_of(files.special.get("eos_token"))
    found = [*(added.get(number) for number in numbers), eos if eos in added.values() else None]
    return list(dict.fromkeys(filter(None, found)))


def find_pad(files: ModelFiles, stops: list[str], added: dict[int, str]) -> tuple[str | None, list[str]]:
    """Return a token to pad with that stops nothing, and doubts; no token is added, since no embedding grows."""
    bos, own = (text_of(files.special.get(name)) for name in ("bos_token", "pad_token"))
    known = {*added.values()}
    if own and own not in stops and own in known:
        return own, []
    spare = sorted(token for token in known if token and token not in (*stops, bos))
    found = (token for pattern in PADS for token in spare if re.search(pattern, token.replace("_", " ").lower()))
    pad = next(found, None)
    why = f"its pad token {own} is also a stop token" if own in stops else "it has no pad token"
    if pad:
        return pad, [f"{why}: padded with {pad}"]
    if bos and bos not in stops and bos in known:
        return bos, [f"{why} and no spare one: padded with {bos}"]
    if "ByteLevel" in str(files.tokenizer.get("decoder")) and NO_TEXT in files.tokenizer["model"]["vocab"]:
        return NO_TEXT, [f"{why} and no spare one: padded with {NO_TEXT}, its byte 255, which no text contains"]
    return None, [
        f"{why} and no spare one: add model.pad_token='<token>', one that ends nothing and is not in your data"
    ]
