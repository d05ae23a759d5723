"""`make plan`: forecast each stage of each pipeline, and whether it fits, before anything is launched.

python -m launch.plan model=phi-3-mini dataset=ultrafeedback hardware=1x24gb tuning=lora
python -m launch.plan model=phi-3-mini hardware=all    # on which machine it fits, in full, with LoRA and QLoRA
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import asdict

from hydra import compose, initialize_config_dir
from rich.table import Table

from eval.results.variance import ERROR, foreseen
from launch.config.checks import refuse_useless
from launch.config.errors import CONF, explained
from launch.config.help import helped
from launch.config.idle import refuse_unused
from launch.config.judging import trained_stages
from launch.config.schema import Config, register, resolve
from launch.config.shape import parameters, shape_of
from launch.config.splits import with_folds
from launch.config.sweep import TUNE, overrides, trials_of
from launch.config.trust import unpinned
from launch.config.tuned import without_named
from launch.forecast.ahead import duration, prompts, totals
from launch.forecast.budget import Configs, describe, match, refuse_budget, trainings
from launch.forecast.cost import LIBRARIES, Forecast, forecast, forecast_judge
from launch.forecast.fit import fits, nearest, worst
from launch.forecast.machines import ALL, LEGEND, what_fits
from launch.forecast.split import described, room, with_splits
from launch.forecast.tokens import Tokens, tokens_of
from launch.named.words import with_profiles
from recipes.config import UserError
from recipes.methods import METHODS
from recipes.profiles import Shape
from recipes.system.commands import output, run_command


def composed(words: list[str]) -> Config:
    """Compose the configuration of these options.

    Raises:
        UserError: a launch with them would be rejected.
    """
    with explained(), initialize_config_dir(str(CONF), version_base="1.3"):
        config = without_named(resolve(compose("config", words)), words)
    refuse_useless(config)
    refuse_unused(config, words)
    refuse_budget(config, words)
    return with_splits(with_folds(config))


PARTS = ("weights", "gradients", "optimiser", "reference", "activations", "head", "libraries")


def columns_of(config: Config, shape: Shape, tokens: Tokens, configs: Configs) -> dict[str, Forecast]:
    """Return the trainings of all pipelines, shared ones once.

    One with options of its own has its pipeline's name, and where a stage starts from several models its way to there.
    """
    every = trainings(config, configs)
    found = {}
    for (own, *stages), name in every.items():
        several = sum(stages[-1] == path[-1] and not path[0] for path in every) > 1
        title = f"{stages[-1]} of {own}" if own else " → ".join(stages) if several else stages[-1]
        found[title] = forecast(configs[name], stages[-1], shape, tokens)
    judge = forecast_judge(config, shape, tokens)
    return found | ({"reward (judge)": judge} if judge else {})


def table(config: Config, stages: dict[str, Forecast]) -> Table:
    """Return the figures, one column per stage."""
    columns = [figures(config, stage) for stage in stages.values()]
    shown = Table("", *stages)
    for name in columns[0]:
        shown.add_row(name, *(column[name] for column in columns))
    return shown


def figures(config: Config, stage: Forecast) -> dict[str, str]:
    """Return a stage's figures as text."""
    parts = asdict(stage.memory)
    parts["weights"] += parts["adapters"]
    parts["libraries"] = LIBRARIES
    peak = stage.peak
    return {
        **{f"{part}, GB": gigabytes(parts[part]) for part in PARTS},
        "peak, GB": gigabytes(peak),
        "fits": "?" if room(config) is None else ("yes" if fits(config, peak) else "no"),
        "updates": f"{stage.updates:,}",
        "tokens": f"{stage.tokens:.3g}",
        "FLOPs": f"{stage.flops:.2g}",
        "time": "?" if stage.hours is None else duration(stage.hours),
    }


def gigabytes(count: float) -> str:
    """Return bytes as gigabytes with two decimals, or as many as a small number needs."""
    return f"{count / 1e9:.2f}" if count == 0 or count >= 1e8 else f"{count / 1e9:.1g}"


def title(config: Config) -> str:
    """Return a model's name and size."""
    count = parameters(shape_of(config.model))
    return f"{config.model.name} ({f'{count / 1e9:.3g}B' if count >= 1e8 else f'{count / 1e6:.2g}M'})"


def say(config: Config, repeated: str | None) -> None:
    """Print the forecast, and the line on how often the command repeats it."""
    hardware, shape, tokens = config.hardware, shape_of(config.model), tokens_of(config)
    memory = "?" if room(config) is None else f"{room(config):.3g}"
    output.print(
        f"{title(config)}, tuning={config.tuning}; "
        f"{tokens.pairs:,} pairs to train on ({config.dataset.name}, {tokens.source}; means: "
        f"{tokens.prompt:.0f} tokens of prompt, {tokens.chosen:.0f} and {tokens.rejected:.0f} of responses); "
        f"hardware={hardware.name}: {hardware.processes} x {memory} GB",
        soft_wrap=True,
    )
    configs, budget = match(config, tokens)
    stages = columns_of(config, shape, tokens, configs)
    output.print(table(config, stages))
    output.print(described(config, stages), soft_wrap=True)
    for line in [*totals(config, shape, tokens, list(stages.values())), *([repeated] if repeated else [])]:
        output.print(line, soft_wrap=True)
    if budget:
        output.print(f"{describe(config, configs, budget)}.", soft_wrap=True)
    for line in [*detectable(config, prompts(config, tokens)), *unpinned(config)]:
        output.print(line, soft_wrap=True)
    output.print(
        "An estimate. Memory in GB of one device with its largest micro-batch; tokens without padding; times at "
        f"{hardware.utilisation:.0%} of {hardware.tflops or '?'} TFLOPS a device.",
        soft_wrap=True,
    )
    if room(config) is None:
        output.print("To see whether it fits, add hardware.memory_gb=<GB of a device>.")
    unmeasured = [stage for stage in sorted(trained_stages(config)) if not METHODS[stage].packs]
    if unmeasured:
        lower = " rloo samples token by token, far below this rate, so its time is a lower bound."
        said = f"{' and '.join(unmeasured)}: not compared with measurements.{lower if 'rloo' in unmeasured else ''}"
        output.print(said, soft_wrap=True)
    if not fits(config, worst(config, shape, tokens).peak):
        output.print(f"It does not fit. Nearest setting that does: {nearest(config, shape, tokens)}", soft_wrap=True)


def detectable(config: Config, asked: int) -> Iterable[str]:
    """Say which win rates the table will tell from one half, with one seed and with several."""
    pairs = len(config.pipelines) - 1 if config.compare_with else math.comb(len(config.pipelines), 2)
    if not pairs:
        return
    found = []
    for seeds in (1, 3, 5):
        size = foreseen(seeds, asked, config.eval_samples, ERROR / pairs)
        found.append("none" if size is None else f"{50 + 100 * size:.0f} : {50 - 100 * size:.0f} or more")
    responses = f"{config.eval_samples} response{'s' * (config.eval_samples > 1)} each"
    yield (
        f"Win rates that the table will distinguish from 50 : 50 with a probability of 80%, with {asked} unrelated "
        f"prompts and {responses}: between these models (one seed) {found[0]}; between the methods {found[1]} "
        f"with 3 seeds, {found[2]} with 5."
    )


def plan(words: list[str]) -> None:
    """Print the forecast.

    Raises:
        UserError: a launch with these options would be rejected, or the model's shape or its pairs are unknown.
    """
    if not helped(words, __doc__):
        register()
        named = with_profiles(words)
        kept, repeated = once(named)
        if ALL in named:
            say_machines(named)
        else:
            say(composed(kept), repeated)


def say_machines(words: list[str]) -> None:
    """Print what fits on which machine.

    Raises:
        UserError: as in `plan`, or an option would do nothing.
    """
    if idle := next((word for word in words if word.startswith(("hardware.", "tuning=", "seed=", TUNE))), None):
        raise UserError(f"{idle} would do nothing: {ALL} shows what every profile and tuning can train; remove it")
    # any profile with a GPU, and adapters where their options are given: the table puts each in its place
    adapters = ["tuning=lora"] if any(word.startswith("model.lora_") for word in words) else []
    config = composed([*(word for word in words if word != ALL), "hardware=1x80gb", *adapters])
    output.print(f"{title(config)}; pairs of {config.dataset.name}")
    output.print(what_fits(config))
    output.print(LEGEND.format(stages=", ".join(trained_stages(config))))


def once(words: list[str]) -> tuple[list[str], str | None]:
    """Return the words of one training of every pipeline, and a line on how often the command repeats it, if it does.

    Raises:
        UserError: an option other than the seed has several values, or the number of trials is wrong.
    """
    several = {str(word.input_line): word for word in overrides(words) if word.is_sweep_override()}
    for said, word in several.items():
        if word.key_or_group != "seed":
            raise UserError(f"{said}: make plan forecasts one job, so give one value of each option")
    repeated = [word for word in words if word.startswith(TUNE) or word in several]
    if not repeated:
        return words, None
    times = sum(len(list(seeds.sweep_iterator())) for seeds in several.values()) or 1
    searched = any(word.startswith(TUNE) for word in words)
    times += trials_of(words) if searched else 0
    varied = "; trials choose other epochs" if searched else ""
    kept = [word for word in words if word not in repeated]
    if searched:  # settings are chosen on a split of their own, whatever trains, and by a judge
        kept += ["evaluate=true", "eval_split=validation"]
    return kept, f"With {' '.join(repeated)} every pipeline trains {times} times{varied}."


def main(words: list[str]) -> int:
    """Run the command; return the exit status: 0, or 2 for wrong input."""
    return run_command(plan, words, out=output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
