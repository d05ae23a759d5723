"""`python -m launch.reproduce DIRECTORY [tolerance=1e-5]`: train a finished stage again, and compare.

The options are those in its config.yaml, the start and the pairs those that it names; the original is only read. The
new one lies in runs/_reproduced/, with `reproduction.json` beside its record.
"""

import math
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from launch.config.trust import looks_local
from launch.stages.digest import Planned
from launch.stages.run import run_stage
from recipes.config import UserError, done, read_config, read_json, write_json
from recipes.system.commands import GOES_ON, console, run_command
from recipes.system.versions import provenance, versions

TOLERANCE = 1e-5  # of a weight; on a CPU with as many threads and the same versions the difference is zero
SILENT = {"report_to": "none", "push_to_hub": False}  # the tracker and the hub have the original
DIFFERS = 1


def reproduce(directory: Path, tolerance: float) -> bool:
    """Train a stage's twin and compare the two; return whether their weights are the same to `tolerance`.

    Raises:
        UserError: the stage is not finished, or what it started from or trained on is gone or has changed.
        StageFailed: the training crashed.
    """
    config, record = original(directory)
    for line in changes(record, {"versions": versions(), **provenance()}):
        console.print(f"       {line}", soft_wrap=True)
    twin = place(directory)
    if done(twin):
        shutil.rmtree(twin)
    use_as_many_threads(record)
    options = {**config["options"], **SILENT}
    run_stage(Planned(twin, {**config, "options": options, "versions": versions()}), "reproduced")
    found = {**compare(directory, twin), "tolerance": tolerance}
    write_json(twin / "reproduction.json", found)
    tell(found, twin)
    return found["largest_difference"] is not None and found["largest_difference"] <= tolerance


def original(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a finished stage's configuration and record.

    Raises:
        UserError: it is not finished, or what it started from or trained on is gone or has changed.
    """
    config = read_config(directory)
    if "digest" not in config:
        raise UserError(f"{directory} holds a base model: give the directory of a stage, such as orpo-<digest>")
    if not done(directory) or not (directory / "model").is_dir():
        raise UserError(f"{directory} has no {'model' if done(directory) else 'record.json'}: train it first")
    record = read_json(directory / "record.json")
    if not {"data_fingerprint", "versions", "device", "metrics"} <= record.keys():
        raise UserError(f"{directory}/record.json is not what a training writes: remove it, and launch the same again")
    pairs = Path(config["pairs"], "manifest.json")
    if not pairs.is_file():
        raise UserError(f"the pairs it was trained on, {pairs.parent}, are gone: launch the comparison again for them")
    if read_json(pairs)["fingerprint"] != record["data_fingerprint"]:
        raise UserError(f"{pairs.parent} holds other pairs than it was trained on: there is nothing to reproduce")
    for start in filter(None, (config["start"], config.get("reward_model"))):
        if looks_local(start) and not Path(start).is_dir():
            raise UserError(f"{start}, which it started from, is gone: launch that stage or model again first")
    return config, record


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each version, and the commit, that is another one now or cannot be told."""
    lines = [
        f"{name}: {then['versions'].get(name)} then, {version} now"
        for name, version in now["versions"].items()
        if then["versions"].get(name) != version
    ]
    if then["commit"] != now["commit"]:
        lines.append(f"commit: {then['commit']} then, {now['commit']} now")
    lines += [f"changes that were not committed: {when}" for when, of in (("then", then), ("now", now)) if of["dirty"]]
    return lines


def place(directory: Path) -> Path:
    """Return where the twin of runs/<model>/<dataset>/<stage> lies."""
    stage = directory.resolve()
    return stage.parents[2] / "_reproduced" / stage.relative_to(stage.parents[2])


def use_as_many_threads(record: dict[str, Any]) -> None:
    """Let PyTorch, which reads it at import, sum on as many threads as then: another number rounds otherwise."""
    if threads := re.fullmatch(r".* CPU, (\d+) threads", record["device"]):
        os.environ["OMP_NUM_THREADS"] = threads[1]


def compare(directory: Path, twin: Path) -> dict[str, Any]:
    """Return what differs: weights (null: other names or shapes), metrics, versions, device."""
    from recipes.training.compare import difference  # torch takes seconds that a wrong word need not wait for

    ours, theirs = read_json(twin / "record.json"), read_json(directory / "record.json")
    largest, same = difference(directory / "model", twin / "model")
    names = ours["metrics"].keys() | theirs["metrics"].keys()
    pairs = {name: [theirs["metrics"].get(name), ours["metrics"].get(name)] for name in sorted(names)}
    return {
        "original": str(directory),
        "largest_difference": largest,
        "same_bits": same,
        "metrics_that_differ": {name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
        "changed": changes(theirs, ours),
        "device": [theirs["device"], ours["device"]],
    }


def tell(found: dict[str, Any], twin: Path) -> None:
    """Print what was found."""
    largest = found["largest_difference"]
    words = (
        "are equal bit for bit"
        if found["same_bits"]
        else f"differ by at most {largest} (tolerance {found['tolerance']})"
    )
    if largest is None:
        words = "have other names or shapes"
    console.print(f"       {twin}: the weights {words}", soft_wrap=True)
    for name, (then, now) in found["metrics_that_differ"].items():
        console.print(f"       {name}: {then} then, {now} now")
    if found["device"][0] != found["device"][1]:
        console.print(f"       device: {found['device'][0]} then, {found['device'][1]} now")


def main(words: list[str]) -> int:
    """Reproduce the stage named; return the exit status: 0 the same, 1 it differs.

    Raises:
        UserError: no stage is named, or an option is wrong; and as `reproduce`.
    """
    names = [word for word in words if not word.startswith("tolerance=")]
    given = [word.partition("=")[2] for word in words if word.startswith("tolerance=")]
    if odd := [name for name in names if "=" in name and not Path(name).exists()]:
        raise UserError(f"{odd[0]}: the only option is tolerance=")
    if len(names) != 1 or Path(names[0]).is_file():
        raise UserError("give one finished stage: make reproduce RUN=runs/<model>/<dataset>/<stage>-<digest>")
    return 0 if reproduce(Path(names[0]), number(given[-1]) if given else TOLERANCE) else DIFFERS


def number(text: str) -> float:
    """Read a tolerance.

    Raises:
        UserError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise UserError(f"tolerance={text}: give a number of 0 or more, such as 1e-5")
    return value


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], GOES_ON))
