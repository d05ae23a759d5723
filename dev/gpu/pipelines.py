"""ORPO against SFT -> DPO through the launcher, in device-seconds, beside `make plan`'s forecast."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from dev.bench.pipelines import STAGES, base_model, command, cost, train
from launch.config.schema import register
from launch.config.shape import shape_of
from launch.forecast.cost import Forecast, forecast
from launch.forecast.tokens import tokens_of
from launch.plan import composed


def pipelines(model: str, engine: str, pairs: int, file: str | None, tokenizer: str | None) -> dict[str, Any]:
    """Return each pipeline's cost on the same pairs, and each stage's forecast in hours and bytes.

    Raises:
        UserError: the launcher stopped.
    """
    with tempfile.TemporaryDirectory() as directory:
        base = base_model(tokenizer, model, Path(directory, "base"))
        words = command(file if tokenizer else None, base, Path(directory, "runs"), engine, pairs)
        records = train(words, Path(directory, "runs"))
        forecasts = plan(words[words.index("--multirun") + 1 :])
    return {
        "pairs": pairs,
        "costs": {name: cost(records, stages) for name, stages in STAGES.items()},
        "forecasts": {stage: predicted(of) for stage, of in forecasts.items()},
    }


def predicted(stage: Forecast) -> dict[str, float]:
    """Return a stage's forecast in its record's terms: allocated memory on a GPU, the whole process's elsewhere."""
    assert stage.hours is not None  # profiles of detected machines have a rate
    return {"seconds": 3600 * stage.hours, "bytes": stage.memory.peak if torch.cuda.is_available() else stage.peak}


def plan(words: list[str]) -> dict[str, Forecast]:
    """Return the forecast of every stage of a command, from its prepared pairs."""
    register()
    config = composed(words)
    shape, tokens = shape_of(config.model), tokens_of(config)
    stages = config.stages
    return {stage: forecast(config, stage, shape, tokens) for stage in sorted(stages)}
