"""`python -m eval.export STAGE [format=hf|gguf] [to=PATH]`: a model for other programs, checked against the run's.

    format=hf     a directory for Transformers, vLLM and the like: weights, tokenizer, chat template, stop tokens, card
    format=gguf   a file for llama.cpp, Ollama and the like; outtype=f16, bf16 or q8_0 rounds the weights

The export is loaded by plain Transformers, or by llama.cpp, and responds to `prompts` held-out prompts. If greedy
responses of Transformers differ from the run's, or llama.cpp's log-probs by more than the rounding of weights explains,
it is removed. Without `to` it is written to runs/_exported/.
"""

import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from eval.commands import gguf
from eval.commands.cli import run
from recipes.config import UserError, done, read_config
from recipes.methods import METHODS
from recipes.system.commands import console, output
from recipes.system.hub import WEIGHTS
from recipes.system.paths import exists, expanded

KINDS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}  # safetensors' names, and llama.cpp's
FORMATS = ("hf", "gguf")
OUTTYPES = ("f32", "f16", "bf16", "q8_0")


@dataclass
class Options:
    """The options of the command line."""

    format: str = "hf"
    to: str | None = None
    outtype: str | None = None  # for GGUF: f32, f16, bf16 or q8_0; null: as the weights are stored
    prompts: int = 8
    max_new_tokens: int = 64


@dataclass
class Question:
    """A held-out prompt, as messages and as the ids of training, with the run's own greedy response."""

    dialogue: list[dict[str, str]]
    ids: list[int]
    text: str


def main(names: list[str], options: Options) -> None:
    """Export the named stage.

    Raises:
        UserError: it is not finished, the target exists, or the export responds differently.
    """
    if options.max_new_tokens < 1 or options.prompts < 1:
        raise UserError("prompts and max_new_tokens must be at least 1, to check the export")
    if options.format not in FORMATS:
        raise UserError(f"format={options.format}: use {' or '.join(FORMATS)}")
    if options.outtype is not None and (options.format == "hf" or options.outtype not in OUTTYPES):
        raise UserError(f"outtype={options.outtype}: format=gguf takes {', '.join(OUTTYPES)}, format=hf none")
    directory = one_stage(names, "make export RUN=runs/<model>/<dataset>/<stage>-<digest>")
    target = place(directory, options)
    asked = questions(directory, options)
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    console.print(f"exporting {directory}; then its responses are checked", soft_wrap=True)
    try:
        found = (export_hf if options.format == "hf" else export_gguf)(directory, partial, asked, options)
        remove(target)
        partial.rename(target)
    finally:
        remove(partial)
    output.print(f"{target}: {found}", soft_wrap=True)
    output.print(f"talk to it: make chat RUN={target}", soft_wrap=True)


def one_stage(names: list[str], usage: str) -> Path:
    """Return the named finished stage, a language model.

    Raises:
        UserError: it is not one; `usage` is the command.
    """
    if len(names) != 1:
        raise UserError(f"name one finished stage: {usage}")
    directory = Path(names[0])
    method = METHODS.get(read_config(directory).get("stage", "base"))
    if method is None or not method.answers:
        raise UserError(f"{directory} is no trained language model: name a stage such as orpo-<digest>")
    if not done(directory) or not (directory / "model").is_dir():
        raise UserError(f"{directory} has no {'model' if done(directory) else 'record.json'}: train it first")
    return directory


def place(directory: Path, options: Options) -> Path:
    """Return the export's target; an earlier export is replaced, a user's file is not.

    Raises:
        UserError: the target exists, or there is no default.
    """
    if options.to is None:
        stage = directory.resolve()
        if not (stage.parents[2] / "_pairs").is_dir():
            raise UserError(f"{directory} is not in runs/<model>/<dataset>/: name the target, TO=<path>")
        target = stage.parents[2] / "_exported" / stage.relative_to(stage.parents[2])
        return target.with_name(f"{target.name}.gguf") if options.format == "gguf" else target
    if exists(options.to):
        raise UserError(f"{options.to} exists: name another target, or remove it")
    return expanded(options.to)


def questions(directory: Path, options: Options) -> list[Question]:
    """Return evenly spaced held-out prompts, with the run's own responses.

    Raises:
        UserError: the pairs were removed.
    """
    from eval.answers.generate import answer
    from eval.answers.load import load_renderer, prompt_ids
    from eval.answers.store import Sampling
    from eval.results.prompts import held_out_rows

    pairs = Path(read_config(directory)["pairs"])
    if not pairs.is_dir():
        raise UserError(f"{pairs}, the pairs of {directory}, are missing: run the launch again to prepare them")
    rows: Any = held_out_rows({"pairs": str(pairs)})
    count = min(options.prompts, len(rows))
    dialogues = [rows[number * len(rows) // count]["prompt"] for number in range(count)]
    answers = answer(directory, dialogues, Sampling(options.max_new_tokens, 0.0), lambda count: None)
    ids = prompt_ids(load_renderer(directory), dialogues)
    return [Question(turns, begun, said.text) for turns, begun, (said,) in zip(dialogues, ids, answers, strict=True)]


def export_hf(directory: Path, target: Path, asked: list[Question], options: Options) -> str:
    """Copy the model directory; say how many responses equal the run's.

    Raises:
        UserError: not all do.
    """
    from eval.answers.load import load

    shutil.copytree(directory / "model", target)
    if not (target / "README.md").exists():
        output.print("no model card yet; `make eval SUITE=card` writes one for an evaluated session", soft_wrap=True)
    said = transformers_answers(target, [question.dialogue for question in asked], options, load(directory)[0])
    differ = [(one.text, text) for one, text in zip(asked, said, strict=True) if one.text != text]
    if differ:
        place = next((place for place, (one, two) in enumerate(zip(*differ[0], strict=False)) if one != two), 0)
        start = max(0, place - 40)
        ours, theirs = (text[start : place + 40] for text in differ[0])
        raise UserError(
            f"nothing was exported: {len(differ)} of {len(asked)} greedy responses differ from the run's; where they "
            f"first do, it said {ours!r}, and what was exported {theirs!r}"
        )
    return equal(len(asked), asked)


def transformers_answers(path: Path, dialogues: list[Any], options: Options, like: Any) -> list[str]:
    """Respond with plain Transformers and only the files at `path`; precision and device are those of `like`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from eval.answers.load import pretrained

    tokenizer = pretrained(AutoTokenizer, str(path), None)
    model = pretrained(AutoModelForCausalLM, str(path), None, dtype=like.dtype, **WEIGHTS).to(like.device)
    texts = []
    for turns in dialogues:
        prompt: Any = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said = model.generate(**prompt.to(like.device), do_sample=False, max_new_tokens=options.max_new_tokens)
        texts.append(tokenizer.decode(said[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def export_gguf(directory: Path, target: Path, asked: list[Question], options: Options) -> str:
    """Convert the model with llama.cpp's converter; return how near llama.cpp comes to the run.

    Raises:
        UserError: the converter rejects it, a prompt gets other ids, or log-probs differ by more than rounding.
    """
    from torch import get_num_threads

    from eval.answers.load import load
    from eval.commands.rounding import farthest

    kind = options.outtype or stored(directory / "model")
    gguf.call("convert", directory / "model", target, kind)
    found = gguf.answers(target, [asdict(question) for question in asked], options.max_new_tokens, get_num_threads())
    for question, answers in zip(asked, found, strict=True):
        if answers["tokens"] != len(question.ids):
            raise UserError(
                f"llama.cpp reads {answers['tokens']} tokens where training had {len(question.ids)}, in "
                f"{question.dialogue[-1]['content'][:60]!r}: it splits text differently from the model; use FORMAT=hf"
            )
    model, tokenizer, _ = load(directory)
    nats = farthest(model, tokenizer, kind, [(one.ids, two) for one, two in zip(asked, found, strict=True)])
    same = sum(one.text.strip() == two["text"].strip() for one, two in zip(asked, found, strict=True))
    return f"{equal(same, asked)}; no log-prob of {kind} weights is farther than {nats:.2g} nats from the run's"


def stored(model: Path) -> str:
    """Return llama.cpp's name for the type of a model's stored weights."""
    with safe_open(min(model.glob("*.safetensors")), "pt") as file:
        return KINDS.get(file.get_slice(next(iter(file.keys()))).get_dtype(), "f32")


def equal(same: int, asked: list[Question]) -> str:
    """Say how many responses are equal."""
    return f"{same} of {len(asked)} greedy responses equal the run's"


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, Options, main, stopped="interrupted: nothing was exported"))
