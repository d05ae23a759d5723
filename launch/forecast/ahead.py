"""What lies ahead of a job in words: how long its stages train, what its evaluation asks, what it writes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from launch.config.idle import warms_up
from launch.config.judging import ELSEWHERE, GOLD, NONE, judge_of
from launch.config.schema import Config
from launch.config.shape import parameters, shape_of
from launch.forecast.cost import Forecast, forecast, matrices, updates_of
from launch.forecast.tokens import Tokens, of_judge
from launch.stages.digest import Planned
from launch.stages.inputs import disk
from recipes.config import UserError, done
from recipes.profiles import TEST, Shape
from recipes.training.flops import Reading, forward

UNITS = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (120, 60, "min"))  # from, seconds of one, name
FEWEST = 14  # prompts: with fewer, no win rate of three pipelines is found with probability 80%, whatever it is
GREEDY = 1  # response to each prompt, besides the sampled ones


def duration(hours: float) -> str:
    """Return a time as people say it: 12 s, 34 min, 3.4 h, 2.5 days."""
    seconds = 3600 * hours
    for least, one, name in UNITS:
        if seconds >= least:
            return f"{seconds / one:.0f} {name}" if seconds >= 10 * one else f"{seconds / one:.1f} {name}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"


def expected(
    configs: dict[str, Config], pipelines: dict[str, list[Planned]], tokens: Tokens, judge: list[Planned]
) -> str | None:
    """Return how long the stages that are left to train take; None if there is none, or it is unknown."""
    left = {}
    for name, stages in pipelines.items():
        left |= {
            stage.directory: (configs[name], stage.config["stage"]) for stage in stages if not done(stage.directory)
        }
    try:
        found = [(name, forecast(config, name, shape_of(config.model), tokens).hours) for config, name in left.values()]
        for config in [*configs.values()][:1] if judge and not done(judge[0].directory) else []:
            found.append(("judge", forecast(config, "reward", shape_of(config.model), of_judge(config, tokens)).hours))
    except UserError:  # a family whose shape is not known
        return None
    hours = [time for _, time in found if time is not None]
    if not found or len(hours) < len(found):
        return None
    parts = f": {', '.join(f'{name} {duration(time or 0)}' for name, time in found)}" if len(found) > 1 else ""
    more = "; then the evaluation" if next(iter(configs.values())).evaluate else ""
    return f"{len(found)} stage{'s' * (len(found) > 1)} to train, about {duration(sum(hours))}{parts}{more}"


def only_warming_up(stages: list[Planned], pairs: dict[str, int]) -> Iterator[str]:
    """Say of which stages every optimizer step is warm-up; `pairs` are the rows of splits, and of stages with more."""
    for stage in {stage.directory: stage for stage in stages}.values():
        options, name = stage.config["options"], stage.config["stage"]
        read = "demonstrations" if "demonstrations" in stage.config else stage.config.get("split", "train")
        read = name if read == "train" and name in pairs else read
        updates = updates_of(name, options, pairs[read], stage.config["batch_size"])
        share = options["warmup_steps"]
        warm = math.ceil(updates * share) if share < 1 else share
        if updates <= warm and warms_up(options):
            yield (
                f"{name}: warm-up begins at a rate of 0 and takes all {updates} of its optimizer steps, so little or "
                f"nothing is learnt: add {name}.warmup_steps=0, lower batch_size, or give more pairs"
            )


def too_few_prompts(config: Config, pairs: dict[str, int]) -> Iterator[str]:
    """Say that a comparison has too few held-out prompts for a verdict; `pairs` are the rows of splits."""
    asked = min(pairs.get(config.eval_split or TEST, FEWEST), config.eval_prompts)
    if config.evaluate and len(config.pipelines) > 1 and asked < FEWEST:
        more = "eval_prompts=" if asked == config.eval_prompts else "dataset.test_fraction=0.3, or give more pairs"
        yield f"{asked} held-out prompts are too few to distinguish two pipelines; {FEWEST} are needed: raise {more}"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation generates for all models of a job."""

    models: int
    responses: int
    hours: float | None  # at the rate of a training


def held_out(config: Config, tokens: Tokens) -> int:
    """Return how many pairs are held out, as many as prompts are asked for where it is unknown."""
    return min(filter(None, (config.dataset.test_rows, tokens.held_out)), default=config.eval_prompts)


def prompts(config: Config, tokens: Tokens) -> int:
    """Return how many held-out prompts are answered."""
    return min(config.eval_prompts, held_out(config, tokens))


def evaluation(config: Config, shape: Shape, tokens: Tokens) -> Evaluation:
    """Return the evaluation of a job's pipelines and its base model; responses are as long as the chosen ones.

    A model samples its responses, and reads both responses of each held-out pair. Responses at temperature 1 are read
    again by the model, by the base model (for the KL) and by a reward model that judges.
    """
    models, asked, pairs = len(config.pipelines) + 1, prompts(config, tokens), held_out(config, tokens)
    tokens = tokens.of(config.stages[-1])
    sampled = asked * config.eval_samples
    responses = sampled + asked * GREEDY
    again = 3 if judge_of(config) not in (GOLD, NONE, *ELSEWHERE) else 2
    dialogues = models * (responses + 2 * pairs + again * sampled) - sampled  # the base model's KL is 0
    length = tokens.prompt + min(tokens.chosen, config.dataset.max_new_tokens)
    read = Reading(length, tokens.chosen, tokens.seen[1]).times(dialogues)
    hardware = config.hardware
    rate = hardware.tflops and hardware.tflops * 1e12 * hardware.utilisation  # of one device: the others wait
    work = forward(matrices(config, config.stages[-1], shape, tokens), read)
    return Evaluation(models, models * responses, work / rate / 3600 if rate else None)


def totals(config: Config, shape: Shape, tokens: Tokens, stages: list[Forecast]) -> list[str]:
    """Return lines on the whole job: training time, evaluation, and what is written."""
    hours = [stage.hours for stage in stages if stage.hours is not None]
    time = f", about {duration(sum(hours))}" if len(hours) == len(stages) else ""
    lines = [f"In all: {len(stages)} stage{'s' * (len(stages) > 1)} to train{time}."]
    if config.evaluate:
        found = evaluation(config, shape, tokens)
        about = "about" if config.hardware.use_cpu else "at least"  # a GPU samples below the rate of a training
        time = f"; {about} {duration(found.hours)} to sample and score them" if found.hours else ""
        lines.append(f"Evaluation: {found.responses:,} responses of {found.models} models, with the base model{time}.")
    space = disk(config, parameters(shape), len(stages))
    size = f"{space / 1e9:.3g} GB" if space >= 1e9 else f"{math.ceil(space / 1e6)} MB"
    lines.append(f"Disk: at most {size} under {config.runs}/; {saving(config, stages)}.")
    return lines


def saving(config: Config, stages: list[Forecast]) -> str:
    """Return how often the stages write a checkpoint."""
    counts = set()
    for stage in stages:
        options = config.options[stage.stage]
        every = options["save_steps"]
        if options["save_strategy"] == "steps":
            often = round(1 / every) if 0 < every < 1 else stage.updates // round(every) if every else 0
            counts.add(min(stage.updates, often))
        else:
            counts.add(round(options["num_train_epochs"]) if options["save_strategy"] == "epoch" else 0)
    least, most = min(counts), max(counts)
    return f"every stage saves {least if least == most else f'{least} to {most}'} checkpoints, of which few are kept"
