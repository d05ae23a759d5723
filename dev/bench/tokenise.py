"""Rows per second from messages to ids: our one pass against the three per-row passes of TRL's ORPOTrainer.

    python -m dev.bench --parts tokenise [--pairs PAIRS.jsonl[.gz] --tokenizer TOKENIZER]

Without them: the pairs and the tokenizer of the embedded world. Both sides get the same rows (whole dialogues as
messages) and run alternately, uncached, in one process each.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset as Rows
from datasets import disable_caching, disable_progress_bars
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM
from trl.data_utils import maybe_apply_chat_template, maybe_extract_prompt

from dev.bench.workload import load_tokenizer
from pocket.base import build_tokenizer
from recipes.data.chat import Renderer
from recipes.data.rows import as_pairs, read_rows
from recipes.data.sources import Typed
from recipes.data.tokenize import Tokenise
from recipes.orpo import ORPOConfig, trl_orpo
from recipes.profiles import Dataset, Model


def answered(row: Any, name: str) -> list[dict[str, str]]:
    """Return a pair's prompt with one of its responses."""
    return [*row["prompt"], {"role": "assistant", "content": row[name]}]


def dialogues(path: str) -> Rows:
    """Return a source's usable pairs in the format of both trainers: two whole dialogues of messages."""
    rows = read_rows([Dataset(name="bench", path=path)])["train"].filter(lambda row: not row["problem"])
    pairs = [{name: answered(row, name) for name in ("chosen", "rejected")} for row in rows]
    return Rows.from_list(pairs)


def stock(tokenizer: Any) -> Callable[[Rows], Rows]:
    """Return TRL's ORPOTrainer's preparation of its rows, as a function."""
    size: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    args = ORPOConfig(output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none", max_length=1024)
    message = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))
    some = Rows.from_list([{"chosen": message, "rejected": message}])
    trainer = trl_orpo.ORPOTrainer(model, args=args, train_dataset=some, processing_class=tokenizer)

    def passes(rows: Rows) -> Rows:
        rows = rows.map(maybe_extract_prompt)
        rows = rows.map(maybe_apply_chat_template, fn_kwargs={"processing_class": tokenizer})
        return rows.map(trainer.tokenize_row)

    return passes


def ours(tokenizer: Any, stop: str) -> Callable[[Rows], Rows]:
    """Return our preparation of the same rows, as a function."""
    render = Renderer(tokenizer, Model("bench", "bench", stop_tokens=[stop]))
    tokenise = Tokenise(render, Dataset("bench", "bench", max_length=1024))

    def passes(rows: Rows) -> Rows:
        return as_pairs(Typed(rows), None, {"source": "bench"}).map(tokenise, batched=True)

    return passes


def measure_tokenisation(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Return every round's rows per second of both sides."""
    disable_caching()
    disable_progress_bars()
    real = bool(given.pairs and given.tokenizer)
    tokenizer: Any = load_tokenizer(given.tokenizer) if real else build_tokenizer()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token
    stop = "<|end|>" if "<|end|>" in tokenizer.get_vocab() else tokenizer.eos_token
    rows = dialogues(given.pairs if real else "pocket")
    sides = {"stock": stock(tokenizer), "ours": ours(tokenizer, stop)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(given.repeats):
        for name, passes in sides.items():
            start = time.perf_counter()
            passes(rows)
            rates[name].append(len(rows) / (time.perf_counter() - start))
    ratio = statistics.median(rates["ours"]) / statistics.median(rates["stock"])
    for name, found in rates.items():
        spread = f"{min(found):,.0f}-{max(found):,.0f}"
        console.print(f"tokenisation, {name}: {statistics.median(found):,.0f} rows/s ({spread})")
    console.print(f"tokenisation: {ratio:.1f}x, {len(rows):,} rows of {Path(given.pairs).name if real else 'pocket'}")
    return {"rows": len(rows), "rows_per_second": rates}
