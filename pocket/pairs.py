"""The preference pairs of the embedded world: two answers to a prompt, the better one by `pocket.gold` chosen.

There are three splits. Only the test split asks about unseen places: the base model has read of them, and what the
pairs teach has to carry over to them.
"""

import json
from pathlib import Path
from random import Random

from pocket.gold import score
from pocket.world import PLACES, PROMPTS, TEST_PROMPTS, TRAIN_PROMPTS, sample_answer

UNSEEN = frozenset(PLACES[18:])  # a quarter of all places
VALIDATION_PAIRS = 300
LABEL_NOISE = 0.05  # the share of pairs with the worse answer as chosen; real annotators err more often


def write_pairs(directory: Path) -> None:
    """Write a file of rows for each split: `prompt`, `chosen` and `rejected`, each a list of messages."""
    rng = Random("pairs")
    directory.mkdir(parents=True, exist_ok=True)
    for name, prompts in splits().items():
        rows = [json.dumps(_pair(prompt, rng)) for prompt in prompts]
        temporary = directory / f".{name}.jsonl.partial"
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
        temporary.replace(directory / f"{name}.jsonl")


def splits() -> dict[str, list[str]]:
    """Return the prompts of each split; those about unseen places are in the test split alone."""
    seen = [prompt for prompt in TRAIN_PROMPTS if not unseen(prompt)]
    return {"test": TEST_PROMPTS, "validation": seen[:VALIDATION_PAIRS], "train": seen[VALIDATION_PAIRS:]}


def unseen(prompt: str) -> bool:
    """Whether a prompt of the world asks about a place that no pair is about, but for those of the test split."""
    return PROMPTS[prompt].place in UNSEEN


def _pair(prompt: str, rng: Random) -> dict[str, list[dict[str, str]]]:
    """Return two sampled answers of unequal reward, the better one as chosen but for the label noise."""
    while True:
        answers = [sample_answer(PROMPTS[prompt], rng) for _ in range(2)]
        (worse, rejected), (better, chosen) = sorted((score(prompt, answer).reward, answer) for answer in answers)
        if better > worse:
            break
    if rng.random() < LABEL_NOISE:
        chosen, rejected = rejected, chosen
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
