"""The base model of pocket's world: a tokenizer and a small Llama, pretrained from scratch.

    python -m pocket.base DIR

reads `size` and `seed` from DIR/config.yaml and writes DIR/model/ and DIR/pretraining.json.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pocket import world

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 1024
BLOCK = 128  # tokens of one packed row
ROWS = 16  # rows of one optimizer step: 16 * 128 = 2,048 tokens


@dataclass(frozen=True)
class Size:
    """A model's shape and its schedule; parameters count the tied embeddings once."""

    layers: int
    width: int
    steps: int
    learning_rate: float


SIZES = {
    "small": Size(layers=3, width=80, steps=450, learning_rate=5e-3),
    "medium": Size(layers=4, width=128, steps=450, learning_rate=4e-3),
    "large": Size(layers=5, width=160, steps=450, learning_rate=3e-3),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, trained on the world's text, with pocket's chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = islice(world.documents(Random("tokenizer")), 5000)
    tokenizer.train_from_iterator((text if isinstance(text, str) else " ".join(text) for text in texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def build_model(size: Size, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a Llama of this size with random weights, drawn from torch's global seed."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.width,
            intermediate_size=8 * size.width // 3,
            num_hidden_layers=size.layers,
            num_attention_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.backend_tokenizer.token_to_id(END),
            pad_token_id=tokenizer.backend_tokenizer.token_to_id(PAD),
        )
    )


def render(document: str | tuple[str, str]) -> str:
    """Return a document as training text: a dialogue as the chat template renders it, a passage with its end."""
    if isinstance(document, str):
        return document + END
    prompt, reply = document
    return f"{USER}{prompt}{END}{ASSISTANT}{reply}{END}"


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[torch.Tensor]:
    """Yield batches of packed token ids, shape (ROWS, BLOCK), without end."""
    documents = world.documents(Random(f"pretraining {seed}"))
    stream: list[int] = []
    while True:
        while len(stream) < ROWS * BLOCK:
            texts = [render(document) for document in islice(documents, 64)]
            for ids in tokenizer(texts)["input_ids"]:
                stream += ids
        yield torch.tensor(stream[: ROWS * BLOCK]).view(ROWS, BLOCK)
        stream = stream[ROWS * BLOCK :]


def pretrain(size: str, seed: int, directory: Path) -> dict[str, Any]:
    """Pretrain a base model by next-token prediction and save it, with its tokenizer, as `directory`/model.

    The same size and seed give the same weights, bit for bit, on the same machine. While it runs,
    `directory`/progress holds "<step> <total>".

    Returns:
        What was done: parameters, tokens, steps, final_loss (nats per token), seconds.

    Raises:
        ValueError: there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"size is {size!r}: give one of {', '.join(SIZES)}")
    start, shape = time.monotonic(), SIZES[size]
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = build_model(shape, tokenizer)
    loss = _train(model, shape, batches(tokenizer, seed), directory / "progress")
    _save(model, tokenizer, directory / "model")
    return {
        "parameters": model.num_parameters(),
        "tokens": shape.steps * ROWS * BLOCK,
        "steps": shape.steps,
        "final_loss": loss,
        "seconds": time.monotonic() - start,
    }


def _train(model: LlamaForCausalLM, size: Size, data: Iterator[torch.Tensor], progress: Path) -> float:
    """Train `model` in place and return its mean loss over the last tenth of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), size.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step / size.steps))
    losses, reported = [], 0.0
    model.train()
    for step, ids in enumerate(islice(data, size.steps), start=1):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if time.monotonic() - reported > 0.5 or step == size.steps:
            _write(progress, f"{step} {size.steps}")
            reported = time.monotonic()
    last = losses[-max(1, size.steps // 10) :]
    return sum(last) / len(last)


def _warmup_cosine(done: float) -> float:
    """Return the learning rate, as a share of its peak, when this share of the training is done."""
    return min(done / 0.05, 0.5 * (1 + math.cos(math.pi * done)))


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Save both, whole or not at all: to a temporary name, then rename."""
    temporary = directory.with_name(f".{directory.name}.partial")
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text)
    temporary.replace(path)


def main(directory: Path) -> None:
    """Pretrain what `directory`/config.yaml asks for; write, and print, pretraining.json.

    Raises:
        SystemExit: config.yaml is missing or wrong; one line says how.
    """
    try:
        config = yaml.safe_load((directory / "config.yaml").read_text())
        facts = pretrain(config["size"], int(config["seed"]), directory)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        sys.exit(f"pocket.base: cannot pretrain in {directory} ({reason})")
    _write(directory / "pretraining.json", json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pocket.base DIR")
    main(Path(sys.argv[1]))
