"""Which stages are the same experiment with another seed, and how the others differ."""

from pathlib import Path

from eval.results.options import said, text
from recipes.config import read_config

# Options that follow from the seed, or from the model's name.
OF_SEEDS = {"seed", "options.seed", "options.data_seed", "reward_model", "format"}
OF_NAMES = ("model.shape", "model.parameters", "model.context_length", "model.pocket_size", "versions.")
OF_NAMES += ("model.model_name_or_path",)


def lineage(directory: Path) -> dict[str, str]:
    """Return the options of a stage and of those before it, under the launcher's names, without seeds and paths.

    Raises:
        UserError: a configuration is missing or damaged.
    """
    config = read_config(directory)
    before = Path(config["start"]).parent
    earlier = (before / "config.yaml").is_file() and "start" in read_config(before)
    found = lineage(before) if earlier else {"start": config["start"]}
    found["pairs"] = config["pairs"]
    for name, value in said(config):
        if name not in OF_SEEDS and not name.startswith(OF_NAMES):
            option = f"{config['stage']}.{name.removeprefix('options.')}" if name.startswith("options.") else name
            found[option] = text(value)
    return found | {"stages": f"{found.get('stages', '')} {config['stage']}".strip()}


def differing(found: list[dict[str, str]]) -> list[str]:
    """Return, for each lineage, the options in which it differs from others with the same stages."""
    settings = []
    for options in found:
        others = [other for other in found if other["stages"] == options["stages"]]
        names = [name for name in options if len({other.get(name) for other in others}) > 1]
        names = [name for name in names if name != "start" or names == ["start"]]
        settings.append(" ".join(f"{name}={options[name]}" for name in names))
    return settings
