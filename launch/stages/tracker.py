"""Where a training's trackers write, and whether Weights & Biases can be reached: without it its client stops one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

PATIENCE = 5  # seconds


def unreachable_tracker(report_to: str | list[str] | None) -> str | None:
    """Return the address of the W&B server that a training would report to if it does not respond; else None."""
    if not {"wandb", "all"} & set(names(report_to)):
        return None
    import wandb  # imported here: it takes seconds, and most trainings do not need it

    settings: Any = wandb.setup().settings  # from the environment, `wandb login --host` and `wandb offline`
    wandb.teardown()
    return settings.base_url if settings.mode == "online" and not answers(settings.base_url) else None


def followed(report_to: str | list[str] | None, environment: Mapping[str, str]) -> Iterator[str]:
    """Say where each tracker of a training writes, and how to look at it."""
    logs = Path(environment["TENSORBOARD_LOGGING_DIR"])
    if logs.parent == Path(environment["WANDB_DIR"]):  # nobody set either: it is below a stage, and all are shown
        logs = logs.parents[3]
    places = {
        "wandb": f"W&B: project {environment['WANDB_PROJECT']}, files in {environment['WANDB_DIR']}/wandb; its address "
        "is in the stage's log",
        "tensorboard": f"TensorBoard: tensorboard --logdir {logs}",
        "mlflow": f"MLflow: mlflow ui --backend-store-uri {environment['MLFLOW_TRACKING_URI']}",
        "trackio": f"Trackio: TRACKIO_DIR={environment['TRACKIO_DIR']} trackio show",
    }
    yield from (places[name] for name in names(report_to) if name in places)


def names(report_to: str | list[str] | None) -> list[str]:
    """Return the trackers of a training."""
    return [report_to] if isinstance(report_to, str) else report_to or []


def answers(address: str) -> bool:
    """Whether a server responds within five seconds, even with an error."""
    try:
        urlopen(address, timeout=PATIENCE).close()
    except HTTPError:
        return True
    except OSError:  # no such host, no route, or a time-out
        return False
    return True
