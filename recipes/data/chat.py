"""From messages to ids: chat template, exact prompt/response boundary, one BOS, one stop, no special token from text.

A template's text and the user's end up in one string, and a tokenizer reads `<|end|>` in either as the special token.
So special tokens are separated before tokenization: in contents they are replaced by a name that occurs in no text, the
template is rendered, its own special tokens get a spelling that occurs in no text either, and a twin of the tokenizer
knows them only by that spelling. Everything else is the tokenizer's own.
"""

import json
import re
import secrets
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from recipes.config import UserError
from recipes.data.header import header, with_header
from recipes.data.messages import Message as Message
from recipes.profiles import Model

SENTENCEPIECE = {"<s>", "</s>", "<unk>", "<pad>"}  # Phi-3 declares Llama's `</s>` as if it were text


class Refused(ValueError):
    """The chat template rejects a dialogue; the message is the template's own."""


class Renderer:
    """Renders dialogues through a model's chat template and tokenizes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: Model) -> None:
        """Make the twin tokenizer.

        Raises:
            UserError: the tokenizer has no fast (Rust) form, or a stop token is none of its special tokens.
        """
        self.tokenizer = tokenizer
        self.name = model.name
        self.stops = stop_ids(tokenizer, model)
        controls = control_tokens(tokenizer, self.stops)
        secret = secrets.token_hex(8)  # random, so that no data set can contain it
        self.opening = f"\ufdd0{secret}:"
        self.spelling = {token: f"{self.opening}{number}\ufdd1" for number, token in enumerate(controls)}
        self.quoted = {token: f"\ufdd2{secret}:{number}\ufdd3" for number, token in enumerate(controls)}
        self.literal = {quoted: token for token, quoted in self.quoted.items()}
        self.control = any_of(controls)
        self.quotation = any_of(self.literal)
        self.twin = twin(tokenizer, self.spelling)
        self.bos: Any = tokenizer.bos_token_id if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else None

    def text(self, messages: list[Message], answer: bool = False, tools: list[Any] | None = None) -> str:
        """Return messages as the model reads them, in the twin's spelling; without a response, up to where it begins.

        Raises:
            Refused: the template rejects these messages.
        """
        return self.texts([messages], answer, tools)[0]

    def texts(self, dialogues: list[list[Message]], answer: bool = False, tools: list[Any] | None = None) -> list[str]:
        """Return many dialogues' texts, as `text` does; `tools` describes the functions that all of them may call."""
        quoted = [[self.quote(message) | {"role": message["role"]} for message in messages] for messages in dialogues]
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": not answer}
        try:
            texts: Any = self.tokenizer.apply_chat_template(quoted, tools=self.quote(tools) or None, **options)
        except Exception as error:  # jinja raises whatever the template's author chose
            raise Refused(" ".join(str(error).split())) from None
        return [self.spell(text) for text in texts]

    def spell(self, text: str) -> str:
        """Return a rendered text with the template's special tokens in the twin's spelling, and contents unquoted."""
        spelled = self.control.sub(lambda found: self.spelling[found[0]], text)
        return self.quotation.sub(lambda found: self.literal[found[0]], spelled)

    def quote(self, value: Any) -> Any:
        """Return messages or tools with their texts' look-alikes of special tokens quoted, hidden from the template."""
        if isinstance(value, str):
            return self.control.sub(lambda found: self.quoted[found[0]], value)
        if isinstance(value, dict):
            return {self.quote(key): self.quote(part) for key, part in value.items()}
        return [self.quote(part) for part in value] if isinstance(value, list) else value

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of rendered texts, which already contain their special tokens."""
        return [encoding.ids for encoding in self.twin.encode_batch_fast(texts, add_special_tokens=False)]

    def begin(self, ids: list[int]) -> list[int]:
        """Put one BOS before a prompt if its template prints none and the tokenizer would add one."""
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    def answers(self, texts: list[str], prompts: list[str]) -> list[list[int]]:
        """Return the ids that responses add to their prompts, up to and including one stop token each.

        If tokens would merge across the boundary, the response is tokenized separately: the model must be trained on
        exactly the prompt ids that it gets when it generates.

        Raises:
            UserError: the template renders a prompt differently when a response follows.
        """
        starts = [self.last_control(prompt) for prompt in prompts]
        for text, prompt in zip(texts, prompts, strict=True):
            if not text.startswith(prompt):
                raise UserError(
                    f"{self.name}'s chat template renders a prompt differently once a response follows: use another"
                )
        # A tokenizer never merges across a special token: text before the prompt's last one is not encoded again.
        tails = self.encode([text[start:] for text, start in zip(texts, starts, strict=True)])
        ends = self.encode([prompt[start:] for prompt, start in zip(prompts, starts, strict=True)])
        return [
            self.end(tail[len(end) :] if tail[: len(end)] == end else self.continuation(text[len(prompt) :]))
            for tail, end, text, prompt in zip(tails, ends, texts, prompts, strict=True)
        ]

    def last_control(self, text: str) -> int:
        """Return where the last special token of a text in the twin's spelling begins; 0 if there is none."""
        return max(0, text.rfind(self.opening))

    def continuation(self, text: str) -> list[int]:
        """Return the ids of a text that continues another, without the blank that some tokenizers put before a text.

        After an anchor that it does not merge with, the text keeps its own ids.
        """
        for anchor in ("\n", "x", "."):
            before, both = self.encode([anchor, anchor + text])
            if both[: len(before)] == before:
                return both[len(before) :]
        return self.encode([text])[0]

    def end(self, ids: list[int]) -> list[int]:
        """Cut after the first stop token (only the template can have written it), or add a missing one."""
        for place, token in enumerate(ids):
            if token in self.stops:
                return ids[: place + 1]
        return ids + self.stops[:1]


def ask_for_header(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer's chat templates write the assistant's header at a prompt's end, if they ignore the question."""

    def completed(template: str) -> str:
        def render(messages: list[Message], ask: bool) -> str:
            options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": ask, "chat_template": template}
            return str(tokenizer.apply_chat_template(messages, **options))

        return with_header(template, header(render))

    own: Any = tokenizer.chat_template  # some models have several, by name
    named = isinstance(own, dict)
    tokenizer.chat_template = {name: completed(text) for name, text in own.items()} if named else completed(own)


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: Model) -> list[int]:
    """Return the ids of the model's stop tokens, the end of a turn first.

    Raises:
        UserError: a name is not a single token of this tokenizer, or the model has no stop token.
    """
    tokens = model.stop_tokens or [str(tokenizer.eos_token)]
    known = tokenizer.get_vocab()
    for token in tokens:
        if token not in known:
            raise UserError(f"{token!r} is not a token of {model.name}'s tokenizer: set model.stop_tokens")
    return [known[token] for token in tokens]


def control_tokens(tokenizer: PreTrainedTokenizerBase, stops: list[int]) -> list[str]:
    """Return the tokens to protect: all special tokens, stop tokens, and `<s>` and the like.

    Other added tokens that are not special (`<think>`, runs of blanks) are text, in templates and contents.

    Raises:
        UserError: a stop token is an ordinary word of the vocabulary, which any text may contain.
    """
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    for stop in stops:
        if stop not in added:
            token = tokenizer.convert_ids_to_tokens(stop)
            raise UserError(f"{token!r} is text that any message may contain: model.stop_tokens must be special tokens")
    named = {*tokenizer.all_special_ids, *stops}
    return [
        token.content
        for number, token in added.items()
        if token.special or number in named or token.content in SENTENCEPIECE
    ]


def twin(tokenizer: PreTrainedTokenizerBase, spelling: dict[str, str]) -> Tokenizer:
    """Return a tokenizer equal to `tokenizer` except that its special tokens have another spelling.

    Raises:
        UserError: the tokenizer has no fast (Rust) form.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UserError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: convert it to tokenizer.json and use that"
        )
    values = json.loads(backend.to_str())
    values |= {"post_processor": None, "truncation": None, "padding": None}
    for token in values["added_tokens"]:
        token["content"] = spelling.get(token["content"], token["content"])
    model = values["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {spelling.get(piece, piece): number for piece, number in model["vocab"].items()}
    else:
        model["vocab"] = [[spelling.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = spelling.get(model["unk_token"], model["unk_token"])
    found = Tokenizer.from_str(json.dumps(values))
    assert all(found.token_to_id(new) == backend.token_to_id(old) for old, new in spelling.items())
    return found


def any_of(texts: Any) -> "re.Pattern[str]":
    """Return a pattern that finds any of `texts`, the longest if several match."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")
