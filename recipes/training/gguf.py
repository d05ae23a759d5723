"""A GGUF file as the directory of a Transformers model: `python -m recipes.training.gguf FILE SHA256 PLACE NAME`.

The launcher imports no PyTorch, so this runs in a process of its own. The weights are dequantized to float32, which is
what training keeps them in.
"""

import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from recipes.config import GGUF, UserError, write_json
from recipes.system.commands import run_command
from recipes.system.files import remove_leftovers, temporary
from recipes.system.hub import NO_CODE, reason

FLOATS = ("F32", "F16", "BF16")


def convert(file: Path, sha256: str, place: Path, name: str) -> None:
    """Write the model of a GGUF file as `place`/`name`, or `place`/`name`-4-bit; whole or not at all.

    Args:
        file: the GGUF file.
        sha256: its digest, which goes into the directory's `gguf.json`.
        place: the directory of everything that is made of these bytes.
        name: the model's; quantized weights add their bits.

    Raises:
        UserError: Transformers cannot read the file, or would leave a part of the model out.
    """
    try:
        reader: Any = GGUFReader(file)
        model, tokenizer = load(file)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise UserError(
            f"{file}: Transformers cannot read this GGUF file ({reason(error)}): copy or download it again, or name "
            "the directory or Hub id that it was made from"
        ) from None
    refuse_incomplete(file, reader, model)
    place.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place)
    stored = storage(reader)
    directory = place / (name if stored in FLOATS else f"{name}-{bits(stored)}")
    unfinished = temporary(directory)
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        write_json(unfinished / GGUF, {"file": file.name, "sha256": sha256, "weights": said(stored)})
        for weights in unfinished.glob("*.safetensors"):
            os.utime(weights, (0, 0))  # a large file is known by name, size and time: the same model is the same start
        unfinished.rename(directory)
    except OSError:
        if not directory.is_dir():  # else another command has made it meanwhile
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a file's model in float32 and its tokenizer, as Transformers reads them."""
    with tempfile.TemporaryDirectory() as alone:  # other files beside it would be read, too
        Path(alone, "model.gguf").symlink_to(file.resolve())
        model = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file="model.gguf",
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            **NO_CODE,
        )
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf", **NO_CODE)
    # nothing is quantized any more, and Transformers would refuse to save what it believes to be
    model.config.__dict__.pop("quantization_config", None)
    plain: Any = model
    plain.hf_quantizer = None
    return model, tokenizer


def refuse_incomplete(file: Path, reader: Any, model: PreTrainedModel) -> None:
    """Reject a file of which Transformers reads only a part, silently.

    It skips tensors that it has no place for, such as Llama 3's frequencies (`rope_freqs`), and for most families it
    ignores how positions are scaled.

    Raises:
        UserError: the numbers of weights differ, or positions are scaled.
    """
    there = sum(int(tensor.n_elements) for tensor in reader.tensors)
    unique = {weight.data_ptr(): weight.numel() for weight in model.state_dict().values()}  # tied ones once
    read = sum(unique.values())
    scaled = next((name for name in reader.fields if name.endswith(".rope.scaling.type")), None)
    if there != read:
        raise UserError(
            f"{file}: it has {there:,} weights and the model that Transformers makes of it {read:,}, so it would be "
            "another model: name the directory or Hub id that it was made from (merge a file in several parts first)"
        )
    taken = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type", "default")
    if scaled and reader.fields[scaled].contents() != "none" and taken == "default":
        raise UserError(
            f"{file}: Transformers would ignore its {scaled}, so it would be another model: name the directory or Hub "
            "id that it was made from"
        )


def storage(reader: Any) -> str:
    """Return GGUF's name for how most of the weights are stored: Q4_1, F16."""
    count: Counter[str] = Counter()
    for tensor in reader.tensors:
        count[tensor.tensor_type.name] += int(tensor.n_elements)
    return count.most_common(1)[0][0]


def bits(stored: str) -> str:
    """Return a kind of storage as people say it: 4-bit."""
    found = re.search(r"\d+", stored)
    return f"{found[0]}-bit" if found else stored.lower()


def said(stored: str) -> str:
    """Return what became of the weights, in words."""
    return f"stored as {stored}" if stored in FLOATS else f"dequantized from {bits(stored)} ({stored})"


def main(words: list[str]) -> None:
    """Convert."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    file, sha256, place, name = words
    convert(Path(file), sha256, Path(place), name)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
