"""Trackers: one option for every stage, where each writes is said, and what the user has set stays."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from door import launch, losses, short, stages

from launch.config.schema import Config
from launch.stages.command import tracking
from launch.stages.tracker import followed

STAGE = Path("runs/model/data/orpo-12345678")


def test_one_option_is_for_every_stage_and_a_stages_own_goes_before(compose: Callable[..., Config]) -> None:
    options = compose("pipeline=dpo", "tracker=trackio", "dpo.report_to=[wandb,mlflow]").options
    assert options["sft"]["report_to"] == "trackio" and options["dpo"]["report_to"] == ["wandb", "mlflow"]
    assert compose("pipeline=orpo").options["orpo"]["report_to"] == "none"


def test_every_tracker_has_its_place_below_runs_unless_the_user_named_one() -> None:
    environment = tracking(STAGE, "12345678", "group", {"MLFLOW_TRACKING_URI": "http://tracker:5000"})
    runs = STAGE.resolve().parents[2]
    assert list(followed(["tensorboard", "mlflow", "trackio"], environment)) == [
        "TensorBoard: tensorboard --logdir runs",
        "MLflow: mlflow ui --backend-store-uri http://tracker:5000",
        f"Trackio: TRACKIO_DIR={runs}/_trackio trackio show",
    ]
    assert environment["TENSORBOARD_LOGGING_DIR"] == str(STAGE / "tensorboard")
    assert tracking(STAGE, "", "", {})["MLFLOW_TRACKING_URI"] == f"sqlite:///{runs}/_mlflow.db"
    assert list(followed("none", environment)) == []
    given = tracking(STAGE, "", "", {"TENSORBOARD_LOGGING_DIR": "/tb"})
    assert list(followed("tensorboard", given)) == ["TensorBoard: tensorboard --logdir /tb"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboards_files_hold_the_losses(words: Callable[..., list[str]], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    launch(*words(tmp_path, "pipeline=orpo", *short("orpo"), "tracker=tensorboard"))
    (directory,) = stages(tmp_path)
    found = EventAccumulator(str(directory / "tensorboard"))
    found.Reload()
    logged = [event.value for event in found.Scalars("train/loss")]
    assert logged == pytest.approx(losses(directory), rel=1e-5)
