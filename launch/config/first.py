"""The first line of a launch, from its words alone: what will run, before the imports that it takes."""

import math
import re
from collections.abc import Sequence

import yaml

from recipes.methods import METHODS
from recipes.system.paths import ROOT, exists

EMBEDDED = ("pocket", "pocket-small", "pocket-large")  # models that bring the embedded world's pairs
TRAINING = (*METHODS, "batch_size", "tuning")  # what is swept to choose among settings, beside adapters' options
OF_JUDGE = ("batch_size", "tuning", "reward", "hardware")  # what changes a judge that is trained, beside these
SILENT = {"--cfg", "-c", "--info"}  # Hydra prints something else, and runs nothing


def first_line(words: list[str]) -> str | None:
    """Return what will run; None if that cannot be said yet: a word is wrong, or belongs to a profile."""
    given = {name: value for name, _, value in (word.partition("=") for word in words)}
    name, model = given.get("pipeline", "orpo"), given.get("model", "pocket")
    if "model" not in given and given.get("dataset", "pocket") != "pocket":
        model += " (the embedded toy model; set MODEL= for yours)"
    profile = ROOT / "conf" / "pipeline" / f"{name}.yaml"
    renamed = "experiment" in given or any(name.lstrip("+~").startswith("pipelines") for name in given)
    if SILENT & given.keys() or renamed or not profile.is_file():
        return None
    values = yaml.safe_load(profile.read_text())
    evaluates = given.get("evaluate", str(values.get("evaluate", False))).lower() == "true"
    pipelines = values["pipelines"].values()
    stages = {tuple(stages[: end + 1]) for stages in pipelines for end in range(len(stages))}
    swept = [value for value in given.values() if several(value)]
    jobs = math.prod(value.count(",") + 1 for value in swept)
    counted = [value for value in given.values() if re.match(r"(range|choice|interval|glob)\(", value)]  # by Hydra
    trained = [" → ".join(stages) for stages in pipelines]
    if trains_judge(given, evaluates, len(pipelines)):
        trained.append("reward, the judge")
        stages.add(("judge",))
    data = f" on {given['dataset']}" if "dataset" in given else ""
    many = f", for each of {'several' if counted else jobs} settings" if jobs > 1 or counted else ""
    return f"{model}{data}: {'; '.join(trained)} ({len(stages)} stage{'s' * (len(stages) > 1)}{many})"


def trains_judge(given: dict[str, str], evaluates: bool, pipelines: int) -> bool:
    """Whether a launch trains its judge: if asked, or to compare where there is no gold reward."""
    embedded = {*given.get("model", "pocket").split(",")} <= {*EMBEDDED}
    data = given.get("dataset", "pocket" if embedded else "")
    names = [name for name, value in given.items() if "," in value and several(value)]
    chooses = given.get("eval_split") == "validation" or any(begins(name, TRAINING) for name in names)
    compares = pipelines > 1 or (chooses and not any(begins(name, OF_JUDGE) for name in names))
    by_itself = given.get("judge", "auto") == "auto" and data != "pocket" and evaluates and compares
    return given.get("judge") == "trained" or by_itself


def begins(name: str, groups: Sequence[str]) -> bool:
    """Whether an option is of one of these groups, or of the adapters."""
    return name.partition(".")[0] in groups or ".lora_" in name


def several(value: str) -> bool:
    """Whether commas in a value separate several; in a list, in quotes and in a path they do not."""
    return value[:1] not in ("[", "{", "'", '"') and not exists(value)
