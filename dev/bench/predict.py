"""The forecast of `launch.forecast.memory` for a measurement's peak, to compare with the measured one."""

from dev.bench.measure import Case
from dev.bench.shapes import SHAPES
from dev.bench.workload import RANK, dialogues
from launch.forecast.memory import MicroBatch, Setting, forecast_memory
from recipes.engine.packing import Pair

TRAINER = 58e6  # resident bytes of any trainer, whatever the model; none on a GPU


def predict(case: Case, pairs: list[Pair]) -> float:
    """Return the predicted peak above the idle process, in bytes, for the largest batch of `pairs`."""
    setting = Setting(
        tuning="lora" if case.tuning == "lora" else "full",
        head="packed" if case.engine == "packed" else "stock",
        weight_bytes=2 if case.half else 4,
        half=case.half,
        checkpointing=case.checkpointing,
        rank=RANK,
        cpu=not case.half,
    )
    starts = range(0, len(pairs), case.batch_size)
    batches = [micro_batch(case.engine, pairs[start : start + case.batch_size]) for start in starts]
    memory = forecast_memory(SHAPES[case.model], setting, max(batches, key=lambda batch: batch.tokens))
    return memory.above_idle + (0.0 if case.half else TRAINER)


def micro_batch(engine: str, pairs: list[Pair]) -> MicroBatch:
    """Return the sizes of one batch: packed, or padded to the longest dialogue."""
    if engine == "packed":
        tokens = sum(pair.tokens for pair in pairs)
        shared = sum(len(pair.prompt) + len(pair.rejected) for pair in pairs)
        return MicroBatch(tokens, tokens, shared)
    tokens = 2 * len(pairs) * max(max(dialogues(pair)) for pair in pairs)
    return MicroBatch(tokens, tokens)
