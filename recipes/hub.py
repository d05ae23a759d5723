"""Whether the hub can be reached, asked once: its client alone would retry for half a minute."""

from functools import cache

from huggingface_hub import constants, get_session


@cache
def reachable() -> bool:
    """Whether the hub answers within five seconds; where it does not, its client is told to use its cache alone."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
        return True
    except Exception:  # whatever the client of the installed version raises for no network, no name, no answer
        constants.HF_HUB_OFFLINE = True
        return False
