"""The prompts of each split, every one a form, a topic and an instruction. The same on every machine.

    python -m verifiable.prompts DIRECTORY

writes `train.jsonl` and `test.jsonl`, from which `make pairs` makes pairs.
"""

import json
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random

from verifiable.instructions import INSTRUCTIONS
from verifiable.topics import TRAINED, UNSEEN

FORMS = (
    "Write one or two short sentences about {topic}.",
    "Describe {topic} in two sentences.",
    "Tell a child what is special about {topic}, briefly.",
    "Say in a sentence or two what {topic} mean to people.",
)
TOPICS = {"train": TRAINED, "test": UNSEEN}


@dataclass(frozen=True)
class Prompt:
    """A prompt, what it is about and which kind of instruction it has."""

    prompt: str
    topic: str
    kind: str


@cache
def prompts(split: str) -> tuple[Prompt, ...]:
    """Return the prompts of `train` or `test`, one with each topic and kind, shuffled; no topic is in both."""
    rng = Random(f"verifiable {split}")
    found = [
        Prompt(f"{rng.choice(FORMS).format(topic=topic)} {rng.choice(instruction.wordings)}", topic, kind)
        for topic in TOPICS[split]
        for kind, instruction in INSTRUCTIONS.items()
    ]
    rng.shuffle(found)
    return tuple(found)


@cache
def known() -> dict[str, Prompt]:
    """Return every prompt by its text."""
    return {prompt.prompt: prompt for split in TOPICS for prompt in prompts(split)}


def write(directory: Path) -> None:
    """Write a file of prompts for each split."""
    directory.mkdir(parents=True, exist_ok=True)
    for split in TOPICS:
        lines = [json.dumps(asdict(prompt)) + "\n" for prompt in prompts(split)]
        (directory / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
