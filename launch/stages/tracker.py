"""Whether Weights & Biases can be reached, checked before a training: its client would stop it after 90 seconds."""

from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

PATIENCE = 5  # seconds


def unreachable_tracker(report_to: str | list[str] | None) -> str | None:
    """Return the address of the W&B server that a training would report to if it does not respond; else None."""
    trackers = [report_to] if isinstance(report_to, str) else report_to or []
    if not {"wandb", "all"} & set(trackers):
        return None
    import wandb  # imported here: it takes seconds, and most trainings do not need it

    settings: Any = wandb.setup().settings  # from the environment, `wandb login --host` and `wandb offline`
    wandb.teardown()
    return settings.base_url if settings.mode == "online" and not answers(settings.base_url) else None


def answers(address: str) -> bool:
    """Whether a server responds within five seconds, even with an error."""
    try:
        urlopen(address, timeout=PATIENCE).close()
    except HTTPError:
        return True
    except OSError:  # no such host, no route, or a time-out
        return False
    return True
