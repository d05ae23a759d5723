"""What fits where: a model on every GPU profile of conf/hardware, trained in full, with LoRA and with QLoRA."""

from dataclasses import replace

from rich.table import Table

from launch.config.compatibility import refuse_incompatible
from launch.config.judging import trained_stages
from launch.config.machine import PROFILES, profile
from launch.config.schema import Config
from launch.config.shape import shape_of
from launch.forecast.cost import Forecast, forecast, micro_batch
from launch.forecast.fit import TUNINGS, fits, tuned
from launch.forecast.split import left_open, lengths, room, with_splits
from recipes.config import UserError
from recipes.profiles import Hardware
from recipes.system.commands import output

ALL = "hardware=all"
REFUSED = "refused"
LEGEND = (
    "Each cell: pairs per micro-batch and GB per device of the stage that needs the most ({stages}). ckpt: with "
    "activation checkpointing, which takes a third longer; no: does not fit; GB that one pair needs with "
    "checkpointing. refused: not with this profile's strategy; make plan with both says why. ?: no memory_gb."
)


def machines() -> list[Hardware]:
    """Return the profiles with GPUs, by their number and memory; say which files are no profiles."""
    found = []
    for path in sorted(PROFILES.glob("*.yaml")):
        try:
            found.append(profile(path.stem))
        except UserError as error:
            output.print(f"left out: {error}", soft_wrap=True)
    return sorted(
        (machine for machine in found if not machine.use_cpu),
        key=lambda machine: (machine.processes, machine.memory_gb or 0, machine.name),
    )


def what_fits(config: Config) -> Table:
    """Return the table: a row for each machine, a column for each tuning.

    Raises:
        UserError: the model's shape is unknown.
    """
    shape_of(config.model)
    shown = Table("GPUs", "full", "LoRA", "QLoRA")
    free = [tuned(left_open(config), kind) for kind in TUNINGS]
    for machine in machines():
        shown.add_row(machine.name, *(cell(replace(setting, hardware=machine)) for setting in free))
    return shown


def cell(config: Config) -> str:
    """Return whether all stages of a setting fit, and how the one that needs the most does."""
    try:
        refuse_incompatible(config)
        config = with_splits(config)
    except UserError:
        return REFUSED
    if room(config) is None:
        return "?"
    shape = shape_of(config.model)
    found = [forecast(config, stage, shape, lengths(config, stage)) for stage in trained_stages(config)]
    largest = max(found, key=lambda stage: stage.peak)
    if not fits(config, largest.peak):
        return f"no, {largest.peak / 1e9:.3g} GB"

    def ease(stage: Forecast) -> tuple[bool, int, float]:
        options = config.options[stage.stage]
        return not options["activation_checkpointing"], micro_batch(stage.stage, options), -stage.peak

    hardest = min(found, key=ease)
    plain, size, _ = ease(hardest)
    return f"{size}{'' if plain else ' ckpt'}, {hardest.peak / 1e9:.3g} GB"
