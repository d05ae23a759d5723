"""The forecast of `launch.forecast.memory` for a measurement's peak, to compare with the measured one."""

from dev.bench.measure import Case, options_of
from dev.bench.shapes import SHAPES
from dev.bench.workload import RANK, dialogues
from launch.forecast.memory import MicroBatch, Setting, forecast_memory
from recipes.engine.packing import Pair
from recipes.methods import METHODS

TRAINER = 58e6  # resident bytes of any trainer, whatever the model; none on a GPU


def predict(case: Case, pairs: list[Pair]) -> float:
    """Return the predicted peak above the idle process, in bytes, for the largest batch of `pairs`."""
    method = METHODS[case.method]
    setting = Setting(
        tuning="lora" if case.tuning == "lora" else "full",
        head="packed" if case.engine == "packed" else ("fused" if method.fused else "stock"),
        weight_bytes=2 if case.half else 4,
        half=case.half,
        checkpointing=case.checkpointing,
        rank=RANK,
        frozen=int(bool(method.reference_passes) and case.tuning == "full"),
        cpu=not case.half,
    )
    starts = range(0, len(pairs), case.batch_size)
    batches = [micro_batch(case, pairs[start : start + case.batch_size]) for start in starts]
    memory = forecast_memory(SHAPES[case.model], setting, max(batches, key=lambda batch: batch.tokens))
    return memory.above_idle + (0.0 if case.half else TRAINER)


def micro_batch(case: Case, pairs: list[Pair]) -> MicroBatch:
    """Return the sizes of one batch: packed, or padded to the longest dialogue."""
    method = METHODS[case.method]
    options = method.config_class()(**{**options_of(case, "unused"), **dict(case.options)})
    span = method.nll(vars(options))
    if case.engine == "stock":
        lengths = [length for pair in pairs for length in dialogues(pair)[: 2 if method.pairs else 1]]
        tokens = len(lengths) * max(lengths)
        return MicroBatch(tokens, tokens if method.answers else 0)
    tokens = sum(pair.tokens if method.pairs else dialogues(pair)[0] for pair in pairs)
    scored = tokens if span == "full" else tokens - sum(len(pair.prompt) for pair in pairs)
    shared = sum(dialogues(pair)[1] for pair in pairs) if method.pairs else 0
    return MicroBatch(tokens, scored if method.answers else 0, shared)
