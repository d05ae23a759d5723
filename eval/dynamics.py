"""Log-probs of held-out responses during training, from checkpoints: the paper's figures 3 and 7.

    python -m eval.dynamics [SESSION or stage directory …] [pairs=200]

Every checkpoint of a stage, its initial checkpoint and its final model are scored on the same held-out pairs under the
same definition, whatever the method: log P(y|x) / |y| of the chosen and rejected responses, in nats per token. Training
is unchanged, but its checkpoints must be kept: train with `sft.save_total_limit=null orpo.save_total_limit=null`, and
so on for each stage. Stages that differ only in their seed form one curve. Writes dynamics.json and dynamics.svg to the
first named directory, else to the newest session.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands.cli import run
from eval.pages.curves import Curve, as_json, draw, first_and_last
from eval.results.lineage import differing, lineage
from eval.results.result import measured
from eval.results.session import jobs_of, read_measured, read_record, sessions
from recipes.config import UserError, done, read_config, write_json
from recipes.methods import METHODS
from recipes.system.commands import output, progress

SIDES = ("chosen", "rejected")
TRAINED = tuple(name for name, method in METHODS.items() if method.answers)  # a reward model gives no log-probs
FEW = 3  # points between start and end that make a curve


@dataclass
class Options:
    """The options of the command line."""

    pairs: int = 0  # the first n held-out pairs; 0: all


@dataclass(frozen=True)
class Point:
    """A model during a stage: the number of optimizer steps, and its weights."""

    step: int
    weights: str  # a directory or a Hub id
    revision: str | None = None
    adapter: str | None = None  # a checkpoint of adapters for these weights


def main(names: list[str], options: Options) -> None:
    """Score, draw, and print where each curve begins and ends.

    Raises:
        UserError: the user can fix it.
    """
    directories = [Path(name) for name in names] or sessions([])
    curves = dynamics(directories, options.pairs)
    place = directories[0]
    write_json(place / "dynamics.json", as_json(curves))
    draw(curves, place / "dynamics.svg")
    first_and_last(curves)
    few = [f"{curve.stage}.save_total_limit=null" for curve in curves if len(curve.steps) < FEW + 2]
    if few:
        asked = " ".join(dict.fromkeys(few))
        output.print(f"Few checkpoints were kept: remove these stages and train again with {asked}.", soft_wrap=True)
    output.print(f"dynamics: {place}/dynamics.svg and dynamics.json", soft_wrap=True)


def dynamics(directories: list[Path], pairs: int = 0) -> list[Curve]:
    """Return a curve for each stage of the named sessions and stage directories, scoring models not yet scored.

    Stages that differ only in their seed form one curve, over the steps that all of them kept. The first `pairs`
    held-out pairs are scored; 0 is all.

    Raises:
        UserError: a directory is neither, contains no finished stage, or its pairs were removed.
    """
    if pairs < 0 or pairs == 1:
        raise UserError(f"pairs must be at least 2, or 0 for all held-out pairs (got {pairs})")
    alike: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for directory in dict.fromkeys(stages(directories)):
        alike.setdefault(tuple(sorted(lineage(directory).items())), []).append(directory)
    if not alike:
        raise UserError(
            f"{', '.join(map(str, directories))}: no job has finished a pipeline; see the errors in */job.json"
        )
    settings = differing([dict(key) for key in alike])
    return [curve(group, setting, pairs) for group, setting in zip(alike.values(), settings, strict=True)]


def stages(directories: list[Path]) -> Iterator[Path]:
    """Yield the stages of all pipelines that train a language model, in order.

    Raises:
        UserError: a directory is neither a session nor a trained stage.
    """
    for path in directories:
        if not (path / "config.yaml").is_file():
            jobs = [job for session in sessions([str(path)]) for job in jobs_of(session)]
            trained = [Path(stage) for job in jobs for line in job["pipelines"].values() for stage in line]
            yield from (stage for stage in trained if read_config(stage)["stage"] in TRAINED)
        elif done(path) and read_config(path).get("stage") in TRAINED:
            yield path
        else:
            raise UserError(f"{path} is no trained language model: name a finished stage of {', '.join(TRAINED)}")


def curve(directories: list[Path], setting: str, pairs: int) -> Curve:
    """Score one stage of every seed."""
    config = read_config(directories[0])
    lines = [{point.step: point for point in points(directory)} for directory in directories]
    steps = sorted(set.intersection(*map(set, lines)))
    scores: dict[str, list[list[list[float]]]] = {side: [] for side in SIDES}
    with progress(len(steps) * len(lines), f"score  {config['stage']} {setting}".rstrip()) as advance:
        for directory, line in zip(directories, lines, strict=True):
            found = []
            for step in steps:
                found.append(scored(directory, line[step], pairs))
                advance(1)
            for side in SIDES:
                scores[side].append([values[side] for values in found])
    arrays = {side: np.array(scores[side]).swapaxes(0, 1) for side in SIDES}
    seeds = [read_config(directory)["seed"] for directory in directories]
    return Curve(config["stage"], setting, seeds, steps, config["batch_size"], **arrays)


def points(directory: Path) -> list[Point]:
    """Return the models of a stage: its initial checkpoint, every checkpoint, and its final model.

    Raises:
        UserError: a checkpoint has no whole weights, or the model was removed.
    """
    config, updates = read_config(directory), read_record(directory)["updates"]
    start, revision = config["start"], config["start_revision"]
    found = [Point(0, start, revision)]
    for path in directory.glob("checkpoint-*"):
        step = int(path.name.removeprefix("checkpoint-"))
        if (path / "adapter_model.safetensors").is_file():
            found.append(Point(step, start, revision, str(path)))
        elif any(path.glob("*.safetensors")):
            found.append(Point(step, str(path)))
        else:
            raise UserError(f"{path} has no complete weights (sharded, or damaged): remove it to continue")
    if not (directory / "model").is_dir():
        raise UserError(f"{directory}/model was removed: remove {directory} too, and train it again")
    return [*(point for point in found if point.step < updates), Point(updates, str(directory / "model"))]


def scored(directory: Path, point: Point, pairs: int) -> dict[str, Any]:
    """Return a model's mean log-probs of every pair, `chosen` and `rejected`, measuring those not yet measured."""
    where = Path(read_config(directory)["pairs"])
    if not (where / "manifest.json").is_file():
        raise UserError(f"{where} was removed: run the command that trained {directory} again")
    made = hashlib.sha256((where / "manifest.json").read_bytes() + (directory / "record.json").read_bytes())
    result = measured(directory, {"step": point.step, "pairs": pairs, "content": made.hexdigest()}, "dynamics")
    if not result.exists():
        from eval.results.likelihood import of_weights

        result.parent.mkdir(exist_ok=True)
        found = of_weights(point.weights, point.revision, point.adapter, where, pairs)
        write_json(result, {"step": point.step, **found})
    return read_measured(result, SIDES)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main))
