"""The workload of a measurement: models with random weights, and pairs of real or synthetic lengths."""

import random
from functools import cache
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from dev.bench.shapes import LONGEST, MADE, SHAPES, Lengths
from recipes.config import UserError
from recipes.data.chat import Renderer
from recipes.data.columns import IDS
from recipes.data.rows import read_rows
from recipes.data.tokenize import Tokenise
from recipes.engine.packing import Pair
from recipes.profiles import Dataset, Model
from recipes.training.model import start_head

MOST_MISSES = 10**6  # after this many overlong dialogues in a row, none is expected to fit
RANK = 16  # of LoRA's adapters


def even(tokens: int) -> str:
    """Return the name of the distribution of dialogues of this length."""
    return f"all {tokens} tokens"


def lengths_of(name: str) -> Lengths:
    """Return a distribution by name; in even ones the prompt is a quarter, and nothing is padded."""
    if name in MADE:
        return MADE[name]
    tokens = int(name.split()[1])
    return Lengths((tokens // 4, tokens - tokens // 4, tokens - tokens // 4), (0.0, 0.0, 0.0))


def build_model(
    name: str, dtype: Any, seed: int = 0, device: str | None = None, answers: bool = True
) -> PreTrainedModel:
    """Return a model with random weights, made on `device` (default: a GPU if there is one).

    It is a language model, or one that starts as a reward model does if it gives no answers.
    """
    import torch

    torch.manual_seed(seed)
    shape = SHAPES[name]
    config = AutoConfig.for_model(
        shape.family,
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads or shape.heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=LONGEST,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        use_cache=False,
    )
    with torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")):
        if answers:
            return AutoModelForCausalLM.from_config(config, dtype=dtype)
        config.num_labels = 1
        model = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
    start_head(model)
    return model


def adapters(tuning: str, random_start: bool = False) -> LoraConfig | None:
    """Return the adapters of `tuning=lora` on all matrices of the layers.

    They start at zero as in training, or at random to compare gradients.
    """
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", init_lora_weights=not random_start)
    return lora if tuning == "lora" else None


def made_pairs(lengths: Lengths, count: int, longest: int, vocabulary: int) -> list[Pair]:
    """Return `count` pairs of random ids whose dialogues have at most `longest` tokens; longer ones are drawn again.

    Raises:
        UserError: hardly any dialogue of these lengths is that short.
    """
    draw = random.Random(0)

    def sizes() -> tuple[int, ...]:
        parts = zip(lengths.medians, lengths.deviations, strict=True)
        return tuple(max(1, round(median * draw.lognormvariate(0, deviation))) for median, deviation in parts)

    pairs, misses = [], 0
    while len(pairs) < count:
        prompt, chosen, rejected = sizes()
        if prompt + max(chosen, rejected) <= longest:
            ids = ([draw.randrange(3, vocabulary) for _ in range(size)] for size in (prompt, chosen, rejected))
            pairs.append(Pair(*ids))
            misses = 0
        elif (misses := misses + 1) == MOST_MISSES:
            medians = "/".join(str(median) for median in lengths.medians)
            raise UserError(
                f"almost no pair with lengths around {medians} fits in {longest} tokens: raise --max-length"
            )
    return pairs


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of a directory or Hub id.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a missing or damaged file raises whatever its reader raises
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"--tokenizer {name} cannot be loaded ({reason}): give a tokenizer's directory") from None


@cache
def real_pairs(file: str, tokenizer: str, longest: int) -> list[Pair]:
    """Return a file's usable pairs under a tokenizer, rendered and tokenized as in the recipes, in a fixed order.

    Raises:
        UserError: the file or the tokenizer cannot be read.
    """
    loaded = load_tokenizer(tokenizer)
    stop = "<|end|>" if "<|end|>" in loaded.get_vocab() else loaded.eos_token
    rows = read_rows([Dataset(name="bench", path=file)])["train"].filter(lambda row: not row["problem"])
    tokenise = Tokenise(Renderer(loaded, Model("bench", "bench", stop_tokens=[stop])), Dataset("bench", "bench"))
    rows = rows.map(tokenise, batched=True)
    pairs = [Pair(*(list(ids) for ids in three)) for three in zip(*(rows[name] for name in IDS), strict=True)]
    fitting = [pair for pair in pairs if pair.chosen and max(dialogues(pair)) <= longest]
    random.Random(0).shuffle(fitting)
    return fitting


def dialogues(pair: Pair) -> tuple[int, int]:
    """Return the lengths of a pair's two dialogues."""
    return len(pair.prompt) + len(pair.chosen), len(pair.prompt) + len(pair.rejected)


def pairs_of(name: str, count: int, longest: int, model: str, file: str | None, tokenizer: str | None) -> list[Pair]:
    """Return `count` pairs of a length distribution; HH-RLHF's are real if a file and a tokenizer are given.

    Raises:
        UserError: the file has too few pairs, or ids beyond the model's vocabulary.
    """
    vocabulary = SHAPES[model].vocabulary
    if name != "hh-rlhf" or not (file and tokenizer):
        return made_pairs(lengths_of(name), count, longest, vocabulary)
    if not Path(file).is_file():
        raise UserError(f"--pairs {file} does not exist: give a file of preference pairs, or leave it out")
    pairs = real_pairs(file, tokenizer, longest)[:count]
    if len(pairs) < count:
        raise UserError(f"--pairs {file} has {len(pairs)} usable pairs of at most {longest} tokens, {count} are needed")
    if max(max(pair.prompt + pair.chosen + pair.rejected) for pair in pairs) >= vocabulary:
        raise UserError(f"--tokenizer {tokenizer} has ids beyond the {vocabulary} of {model}: use --models 21m")
    return pairs
