"""`python -m launch.reproduce DIRECTORY [tolerance=1e-5]`: train a finished stage again, and compare.

Options, initial checkpoint and pairs are those of its config.yaml; the original is only read. The new stage is written
to runs/_reproduced/, with `reproduction.json` beside its record.
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
from recipes.system.paths import expanded
from recipes.system.versions import provenance, versions

TOLERANCE = 1e-5  # of a weight; zero on a CPU with the same number of threads and the same versions
SILENT = {"report_to": "none", "push_to_hub": False}  # the tracker and the Hub already have the original
DIFFERS = 1


def reproduce(directory: Path, tolerance: float) -> bool:
    """Train a stage again and compare the two; return whether their weights agree to `tolerance`.

    Raises:
        UserError: the stage is not finished, or its initial checkpoint or pairs are missing or have changed.
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
        UserError: it is not finished, its pairs are missing or have changed, or its initial checkpoint is missing.
    """
    config = read_config(directory)
    if "digest" not in config:
        raise UserError(f"{directory} is a base model: give a stage's directory, such as orpo-<digest>")
    if not done(directory) or not (directory / "model").is_dir():
        raise UserError(f"{directory} has no {'model' if done(directory) else 'record.json'}: train it first")
    record = read_json(directory / "record.json")
    if not {"data_fingerprint", "versions", "device", "metrics"} <= record.keys():
        raise UserError(f"{directory}/record.json is damaged: remove it, and train the stage again")
    rows = {config["pairs"]: record["data_fingerprint"]}
    if "demonstrations" in config:  # in records of before without `pairs_fingerprint`
        rows = {config["pairs"]: record.get("pairs_fingerprint"), config["demonstrations"]: record["data_fingerprint"]}
    for place, known in rows.items():
        manifest = Path(place, "manifest.json")
        if not manifest.is_file():
            raise UserError(f"{place}, its pairs, are missing: run the comparison again to prepare them")
        if known is not None and read_json(manifest)["fingerprint"] != known:
            raise UserError(f"{place} holds other pairs than it was trained on: restore them, or name another stage")
    for start in filter(None, (config["start"], config.get("reward_model"))):
        if looks_local(start) and not Path(start).is_dir():
            raise UserError(f"its initial checkpoint {start} is missing: train that stage or model again first")
    return config, record


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each version, and for the commit, that has changed or is unknown."""
    lines = [
        f"{name}: {then['versions'].get(name)} then, {version} now"
        for name, version in now["versions"].items()
        if then["versions"].get(name) != version
    ]
    if then["commit"] != now["commit"]:
        lines.append(f"commit: {then['commit']} then, {now['commit']} now")
    lines += [f"uncommitted changes: {when}" for when, of in (("then", then), ("now", now)) if of["dirty"]]
    return lines


def place(directory: Path) -> Path:
    """Return the directory for the repetition of runs/<model>/<dataset>/<stage>."""
    stage = directory.resolve()
    return stage.parents[2] / "_reproduced" / stage.relative_to(stage.parents[2])


def use_as_many_threads(record: dict[str, Any]) -> None:
    """Give PyTorch the original number of threads, which it reads at import: another number rounds differently."""
    if threads := re.fullmatch(r".* CPU, (\d+) threads", record["device"]):
        os.environ["OMP_NUM_THREADS"] = threads[1]


def compare(directory: Path, twin: Path) -> dict[str, Any]:
    """Return the differences: weights (null: other names or shapes), metrics, versions, device."""
    from recipes.training.compare import difference  # importing torch takes seconds, too long to report a wrong word

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
    """Print the comparison."""
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
    """Reproduce the named stage; return the exit status: 0 if equal, 1 if it differs.

    Raises:
        UserError: no stage is named, or an option is invalid; also as in `reproduce`.
    """
    names = [word for word in words if not word.startswith("tolerance=")]
    given = [word.partition("=")[2] for word in words if word.startswith("tolerance=")]
    if odd := [name for name in names if "=" in name and not Path(name).exists()]:
        raise UserError(f"{odd[0]}: no such option; the only one is tolerance=")
    if len(names) != 1 or Path(names[0]).is_file():
        raise UserError("give one finished stage: make reproduce RUN=runs/<model>/<dataset>/<stage>-<digest>")
    return 0 if reproduce(expanded(names[0]), number(given[-1]) if given else TOLERANCE) else DIFFERS


def number(text: str) -> float:
    """Parse a tolerance.

    Raises:
        UserError: it is not a number of 0 or more.
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
