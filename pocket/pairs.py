"""The preference pairs of the embedded world: two answers to a prompt, the better one by `pocket.gold` chosen."""

import json
from pathlib import Path
from random import Random

from pocket.gold import score
from pocket.world import PROMPTS, TEST_PROMPTS, TRAIN_PROMPTS, sample_answer

TRAIN_PAIRS = 3000
LABEL_NOISE = 0.05  # the share of pairs with the worse answer as chosen; real annotators err more often


def write_pairs(directory: Path) -> None:
    """Write train.jsonl and test.jsonl: rows of `prompt`, `chosen` and `rejected`, each a list of messages."""
    rng = Random("pairs")
    directory.mkdir(parents=True, exist_ok=True)
    for name, prompts in (("test", TEST_PROMPTS), ("train", TRAIN_PROMPTS[:TRAIN_PAIRS])):
        rows = [json.dumps(_pair(prompt, rng)) for prompt in prompts]
        temporary = directory / f".{name}.jsonl.partial"
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
        temporary.replace(directory / f"{name}.jsonl")


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
