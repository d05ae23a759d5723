"""Load a tokenizer the same way for every method, without what only a model needs: `make doctor` waits for this."""

import difflib
from contextlib import suppress
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from recipes.config import UserError
from recipes.data.chat import ask_for_header
from recipes.profiles import Model
from recipes.system.hub import NO_CODE, reason


def load_tokenizer(model: Model, path: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer at `path` with the profile's pad token and chat template, which asks for a response.

    Raises:
        UserError: no tokenizer can be loaded, or it has no chat template, or no token to pad with.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, **NO_CODE)
    except Exception as error:  # a missing or damaged file raises whatever its reader raises
        raise UserError(
            f"{path} has no tokenizer that can be loaded ({reason(error)}): copy or download it again, "
            "or check model.model_name_or_path"
        ) from None
    if model.pad_token:
        check_pad_token(tokenizer, model, path, revision)
        tokenizer.pad_token = model.pad_token
    if model.chat_template:
        tokenizer.chat_template = model.chat_template
    if not tokenizer.chat_template:
        raise UserError(
            f"{path} has no chat template: set model.chat_template to a name in conf/chat_template or a file"
        )
    ask_for_header(tokenizer)
    if tokenizer.pad_token_id is None or (not model.pad_token and tokenizer.pad_token in model.stop_tokens):
        raise UserError(
            f"{path} has no pad token besides those that end a response: set model.pad_token to another of its tokens"
        )
    return tokenizer


def check_pad_token(tokenizer: PreTrainedTokenizerBase, model: Model, path: str, revision: str | None) -> None:
    """Reject a pad token that the tokenizer would add to its vocabulary, or that has no row in the model's embedding.

    Some trainers would grow the model for it, and others would not: the compared models would differ in size.

    Raises:
        UserError: the profile's pad token is such a one.
    """
    known = tokenizer.get_vocab()
    if model.pad_token not in known:
        near = difflib.get_close_matches(str(model.pad_token), tokenizer.all_special_tokens, 1)
        hint = f", for example to {near[0]}" if near else ""
        raise UserError(f"{model.pad_token!r} is not a token of {model.name}'s tokenizer: set model.pad_token{hint}")
    with suppress(OSError, ValueError):  # a tokenizer without its model, for the doctor
        config: Any = AutoConfig.from_pretrained(path, revision=revision, **NO_CODE)
        rows = getattr(config.get_text_config(), "vocab_size", None)
        if rows is not None and known[model.pad_token] >= rows:
            raise UserError(
                f"{model.pad_token!r} is token {known[model.pad_token]} of {model.name}'s tokenizer, and the model's "
                f"embedding has {rows} rows: set model.pad_token to another"
            )
