"""Packed ORPO against LLaMA-Factory's on the same 64 pairs, in turns; the peer has its own environment.

    python3 -m venv .cache/peer
    .cache/peer/bin/pip install torch accelerate==1.11.0 datasets==4.0.0 peft==0.18.1 transformers==5.6.0 trl==0.24.0 \\
        omegaconf fire tyro==0.8.14 matplotlib pydantic einops sentencepiece tiktoken scipy av pandas modelscope
    .cache/peer/bin/pip install --no-deps llamafactory==0.9.5
    python -m dev.bench.peer [--pairs PAIRS.jsonl --tokenizer TOKENIZER]

(Its dependencies include torchaudio, whose wheels need CUDA.) Its ORPO differs: the NLL is a mean over each response,
without the prompt.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dev.bench.limits import refuse
from dev.bench.measure import Case, measure
from dev.bench.pipelines import base_model
from dev.bench.suite import alone
from dev.bench.workload import pairs_of
from recipes.config import UserError, write_json
from recipes.engine.packing import Pair
from recipes.system.commands import output as console


def options(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.peer", description=__doc__)
    add: Any = parser.add_argument
    add("--python", type=Path, default=Path(".cache/peer/bin/python"), help="of the peer's environment")
    add("--pairs")
    add("--tokenizer")
    add("--model", default="21m")
    add("--count", type=int, default=64)
    add("--batch-size", type=int, default=8)
    add("--repeats", type=int, default=3)
    add("--max-length", type=int, default=1024)
    add("--output", type=Path, default=Path("docs/bench-peer.json"))
    return parser.parse_args(words)


def peer(given: argparse.Namespace, base: Path, pairs: Path) -> dict[str, float]:
    """Return the peer's figures.

    Raises:
        UserError: its environment is missing, or its process failed.
    """
    if not given.python.exists():
        raise UserError(
            f"{given.python} does not exist: create the environment described in `python -m dev.bench.peer --help`"
        )
    words = [given.python, Path(__file__).with_name("peer_trainer.py"), base, pairs, given.batch_size]
    answer = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise UserError(f"LLaMA-Factory failed: {' '.join(answer.stderr.split())[-300:]}")
    found = json.loads(answer.stdout.splitlines()[-1])
    return {"pairs_per_second": given.count / found["seconds"], "peak_bytes": found["peak_bytes"]}


def as_lists(pairs: list[Pair]) -> list[list[list[int]]]:
    """Return pairs in the format of `peer_trainer`: the ids of prompt, chosen and rejected response."""
    return [[pair.prompt, pair.chosen, pair.rejected] for pair in pairs]


def compare(given: argparse.Namespace, pairs: list[Pair]) -> dict[str, list[dict[str, Any]]]:
    """Measure both sides in turns."""
    case = Case(given.model, "hh-rlhf", "full", given.batch_size, "packed", given.count // given.batch_size)
    found: dict[str, list[dict[str, Any]]] = {"llama-factory": [], "packed": []}
    with tempfile.TemporaryDirectory() as directory:
        base = base_model(given.tokenizer, given.model, Path(directory, "base"))
        file = Path(directory, "pairs.json")
        file.write_text(json.dumps(as_lists(pairs)))
        for _ in range(given.repeats):
            found["llama-factory"].append(peer(given, base, file))
            found["packed"].append(alone(measure, case, pairs))
    return found


def main(words: list[str]) -> int:
    """Measure, print, and write the figures."""
    given = options(words)
    try:
        refuse(given)
        if given.count < 1 or given.count % given.batch_size:
            raise UserError(f"--count {given.count}: give a multiple of --batch-size {given.batch_size}")
        pairs = pairs_of("hh-rlhf", given.count, given.max_length, given.model, given.pairs, given.tokenizer)
        found = compare(given, pairs)
    except UserError as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    for name, repetitions in found.items():
        rates = [one["pairs_per_second"] for one in repetitions]
        peak = statistics.median(one["peak_bytes"] for one in repetitions) / 1e9
        console.print(
            f"{name}: {statistics.median(rates):.2f} pairs/s ({min(rates):.2f}-{max(rates):.2f}), peak {peak:.2f} GB"
        )
    # file names only: a local path means nothing elsewhere
    named = {key: Path(str(value)).name for key, value in vars(given).items()}
    write_json(given.output, {"options": named, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
