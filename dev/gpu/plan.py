"""The measurements in order of priority: on a GPU published shapes, on a CPU tiny ones that rehearse every part."""

from dataclasses import dataclass, replace

from dev.bench.measure import Case, matmul_rate
from dev.bench.workload import even
from dev.gpu.changes import CHANGES, CHUNKS, change
from dev.gpu.exactness import FAMILIES, HEADS, TUNINGS, exactness
from dev.gpu.front_door import COMMANDS, front_door, killed_and_resumed
from dev.gpu.generation import generation
from dev.gpu.job import Job
from dev.gpu.pipelines import pipelines
from dev.gpu.results import MATMUL
from dev.gpu.speed import ENGINES, Data, speed

HH, ULTRAFEEDBACK = "hh-rlhf", "ultrafeedback-like"


@dataclass(frozen=True)
class Options:
    """The command line's options for data."""

    repeats: int = 1
    pairs: str | None = None  # a file of preference pairs; with `tokenizer`, a directory
    tokenizer: str | None = None


def jobs(gpu: bool, given: Options) -> list[Job]:
    """Return every measurement, in order."""
    return [
        Job("exactness", MATMUL, rate),
        *(Job("exactness", f"{of}, {tuning}", exactness, (of, tuning)) for tuning in TUNINGS for of in FAMILIES),
        *(Job("exactness", f"{of}, full", exactness, (of, "full")) for of in HEADS),
        *front_doors("21m" if gpu else "tiny"),
        *speeds(gpu, given),
        *changes(gpu, given),
        Job("generation", "qwen2.5-0.5b" if gpu else "tiny", generation, generation_size(gpu)),
        *(pipeline_jobs(given, "qwen2.5-0.5b", 256) if gpu else pipeline_jobs(given, "tiny", 16)),
    ]


def rate() -> dict[str, float]:
    """Return the measured rate of a large matrix product, to which others are compared."""
    return {"flops_per_second": matmul_rate()}


def front_doors(model: str) -> list[Job]:
    """Return the launcher's commands, and the one that is killed."""
    commands = [Job("recipes", name, front_door, (name, model)) for name in COMMANDS]
    return [*commands, Job("recipes", "killed and resumed", killed_and_resumed, (model,))]


def speeds(gpu: bool, given: Options) -> list[Job]:
    """Return the settings with both engines in turns; the first repetition of all comes before the second of any."""
    data = Data(4096 if gpu else 96, given.pairs, given.tokenizer)
    return [
        Job("speed", f"{describe(case)}, {engine}, {repeat}", speed, (with_engine(case, engine), data, repeat))
        for repeat in range(given.repeats)
        for case in (gpu_cases() if gpu else cpu_cases())
        for engine in ENGINES
    ]


def changes(gpu: bool, given: Options) -> list[Job]:
    """Return each change to the optimizer step by itself, on the first setting whose model is loaded quickly."""
    case = (
        Case("qwen2.5-0.5b", HH, "full", 8, "packed", 12, 2, half=True)
        if gpu
        else replace(cpu_cases()[0], engine="packed")
    )
    data = Data(4096 if gpu else 96, given.pairs, given.tokenizer)
    return [Job("changes", name, change, (name, case, data)) for name in (*CHUNKS, *CHANGES)]


def gpu_cases() -> list[Case]:
    """Return the settings for a GPU, most informative first. Weights are bf16, as in the published rates."""
    settings = [
        ("phi-3-mini", HH, "full", 16),
        ("phi-3-mini", ULTRAFEEDBACK, "full", 8),
        ("llama-3-8b", even(4096), "lora", 2),  # NeMo Automodel's setting, but with pairs
        ("phi-3-mini", even(2048), "full", 4),
        ("llama-3-8b", HH, "lora", 16),
        ("qwen2.5-0.5b", HH, "full", 8),
        ("llama-3.2-1b", HH, "full", 16),
        ("llama-3-8b", ULTRAFEEDBACK, "lora", 8),
        ("qwen2.5-0.5b", ULTRAFEEDBACK, "full", 8),
        ("llama-3.2-1b", ULTRAFEEDBACK, "full", 8),
    ]
    return [Case(*of, "", updates=12, warmup=2, half=True) for of in settings]


def cpu_cases() -> list[Case]:
    """Return one setting of each kind, tiny."""
    settings = [("tiny", HH, "full", 2), ("tiny", even(64), "lora", 2)]
    return [Case(*of, "", updates=1) for of in settings]


def describe(case: Case) -> str:
    """Return the name of a setting."""
    return f"{case.model}, {case.tuning}, {case.lengths}, {case.batch_size} pairs"


def with_engine(case: Case, engine: str) -> Case:
    """Return a setting with an engine."""
    return replace(case, engine=engine)


def pipeline_jobs(given: Options, model: str, pairs: int) -> list[Job]:
    """Return both pipelines through the launcher, with both engines."""
    return [
        Job("pipelines", f"{model}, {engine}", pipelines, (model, engine, pairs, given.pairs, given.tokenizer))
        for engine in ENGINES
    ]


def generation_size(gpu: bool) -> tuple[str, int, int]:
    """Return the model, the number of prompts, and the tokens per response."""
    return ("qwen2.5-0.5b", 256, 128) if gpu else ("tiny", 4, 8)
