"""The hub: whether it can be reached, and what of a repository is trusted: values and words, never code."""

from functools import cache
from typing import Any

from huggingface_hub import constants, get_session

# None, Transformers' default, asks on the terminal whether to run a repository's code.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
WEIGHTS: dict[str, Any] = {**NO_CODE, "use_safetensors": True}


def reason(error: Exception) -> str:
    """Return the first line of what a library says of a model, or what is not trusted in it, or the error's kind."""
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
    """Whether the hub answers within five seconds, asked once: its client alone would retry for half a minute.

    Where it does not, its client is told to use its cache alone.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
        return True
    except Exception:  # whatever the client of the installed version raises for no network, no name, no answer
        constants.HF_HUB_OFFLINE = True
        return False
