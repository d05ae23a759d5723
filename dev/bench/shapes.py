"""What a benchmark can measure: shapes of models, and distributions of lengths; they need no library."""

from dataclasses import dataclass

from recipes.profiles import Shape

VOCABULARY = 32_064
LONGEST = 4096  # positions of a model
# The first two have Phi-3's architecture; the others are published models', for which a CPU is too slow.
SHAPES = {
    "21m": Shape("phi3", layers=6, hidden=256, intermediate=704, heads=4, vocabulary=VOCABULARY),
    "tiny": Shape("phi3", layers=2, hidden=64, intermediate=128, heads=4, vocabulary=1024),
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 4864, heads=14, vocabulary=151_936, key_value_heads=2, tied=True),
    "llama-3.2-1b": Shape("llama", 16, 2048, 8192, heads=32, vocabulary=128_256, key_value_heads=8, tied=True),
    "phi-3-mini": Shape("phi3", 32, 3072, 8192, heads=32, vocabulary=VOCABULARY),
    "llama-3-8b": Shape("llama", 32, 4096, 14_336, heads=32, vocabulary=128_256, key_value_heads=8),
}


@dataclass(frozen=True)
class Lengths:
    """Independent log-normal lengths of prompt, chosen and rejected response: medians, and deviations of the log."""

    medians: tuple[float, float, float]
    deviations: tuple[float, float, float]


MADE = {
    # from 1,794 pairs of harmless-base under Phi-3's tokenizer
    "hh-rlhf": Lengths((108, 30, 38), (0.98, 0.88, 0.92)),
    # medians of UltraFeedback; the deviations are ours
    "ultrafeedback-like": Lengths((110, 280, 240), (0.9, 0.7, 0.7)),
}
