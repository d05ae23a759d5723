"""The Hub: whether it can be reached, and what we trust in a repository: values and text, never code."""

from functools import cache
from typing import Any

from huggingface_hub import constants, get_session

# None, Transformers' default, asks on the terminal whether to run a repository's code.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
WEIGHTS: dict[str, Any] = {**NO_CODE, "use_safetensors": True}


def reason(error: Exception) -> str:
    """Return what is not trusted in a model, else the first line of a library's error, else its type."""
    text = str(error)
    if "trust_remote_code" in text:
        return "it needs trust_remote_code, and code of a model's repository is never run here"
    if "safetensors" in text and ("no file named" in text.lower() or "does not appear to have" in text):
        return (
            "it has no weights in safetensors, and pickled ones, which can hold code, are not read: name a revision "
            "that has them, often model.model_revision=refs/pr/<number>, or convert them where you trust them"
        )
    return next(iter(text.splitlines()), "") or type(error).__name__


@cache
def reachable() -> bool:
    """Whether the Hub responds within five seconds, checked once: its client would retry for half a minute.

    If it does not, its client is set to use only its cache.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
        return True
    except Exception:  # whatever the installed client raises without network, host or response
        constants.HF_HUB_OFFLINE = True
        return False
