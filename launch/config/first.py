"""The first line of a launch, from its words alone: what will run, before the imports that it takes."""

import math
from pathlib import Path

import yaml

from recipes.system.paths import ROOT

SILENT = {"--cfg", "-c", "--info"}  # Hydra prints something else, and runs nothing


def first_line(words: list[str]) -> str | None:
    """Return what will run; None if that cannot be said yet: a word is wrong, or belongs to a profile."""
    given = {name: value for name, _, value in (word.partition("=") for word in words)}
    name, model = given.get("pipeline", "orpo"), given.get("model", "pocket")
    profile = ROOT / "conf" / "pipeline" / f"{name}.yaml"
    if SILENT & given.keys() or "experiment" in given or not profile.is_file():
        return None
    values = yaml.safe_load(profile.read_text())
    pipelines = values["pipelines"].values()
    stages = {tuple(stages[: end + 1]) for stages in pipelines for end in range(len(stages))}
    jobs = math.prod(value.count(",") + 1 for value in given.values() if several(value))
    trained = [" → ".join(stages) for stages in pipelines]
    if values.get("evaluate") and trains_judge(given) and len(pipelines) > 1:
        trained.append("reward, the judge")
        stages.add(("judge",))
    data = f" on {given['dataset']}" if "dataset" in given else ""
    many = f", for each of {jobs} settings" if jobs > 1 else ""
    return f"{model}{data}: {'; '.join(trained)} ({len(stages)} stage{'s' * (len(stages) > 1)}{many})"


def trains_judge(given: dict[str, str]) -> bool:
    """Whether a comparison of these options trains its judge, as it does by itself where there is no gold reward."""
    data = given.get("dataset", given.get("model", "pocket"))  # only the embedded models have their own
    by_itself = given.get("judge", "auto") == "auto" and not data.startswith("pocket")
    return given.get("judge") == "trained" or by_itself


def several(value: str) -> bool:
    """Whether commas in a value separate several; in a list, in quotes and in a path they do not."""
    return value[:1] not in ("[", "{", "'", '"') and not Path(value).expanduser().exists()
