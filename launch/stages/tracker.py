"""Whether Weights & Biases can be reached: asked before a training, which its client would stop after 90 seconds."""

from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

PATIENCE = 5  # seconds


def unreachable_tracker(report_to: str | list[str] | None) -> str | None:
    """Return the address of the W&B server that a training would report to, where it does not answer; else None."""
    trackers = [report_to] if isinstance(report_to, str) else report_to or []
    if not {"wandb", "all"} & set(trackers):
        return None
    import wandb  # seconds that other trainings need not wait for

    settings: Any = wandb.setup().settings  # of the environment, of `wandb login --host` and of `wandb offline`
    wandb.teardown()
    return settings.base_url if settings.mode == "online" and not answers(settings.base_url) else None


def answers(address: str) -> bool:
    """Whether a server answers within five seconds, be it with an error."""
    try:
        urlopen(address, timeout=PATIENCE).close()
    except HTTPError:
        return True
    except OSError:  # no name, no route, no answer in time
        return False
    return True
