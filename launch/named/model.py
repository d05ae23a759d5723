"""A profile for a model that has none, from the model's own files."""

import json
import re
from pathlib import Path
from typing import Any

from launch.config.shape import FAMILIES, linears, parameters, shape_from
from launch.named.defaults import options, rates
from launch.named.files import ModelFiles, count_parameters
from launch.named.profile import Profile, plain_name
from launch.named.tokens import added_tokens, render, text_of, tokens_of
from recipes.config import UserError
from recipes.profiles import Shape
from recipes.system.paths import ROOT, expanded

HALF = ("float16", "bfloat16")
INSTRUCT = re.compile(r"instruct|chat|[-_.]it\b|dpo|sft|rlhf", re.IGNORECASE)
# Names of directories that say nothing of the model in them; a Hub cache's say it two above a commit.
STANDARD = re.compile(r"model|final|merged|best|hf|checkpoint(-\d+)?|snapshots|[0-9a-f]{40}")


def model_profile(files: ModelFiles) -> Profile:
    """Return a model's profile: name, template, tokens, shape, adapters' targets, and options that fit its size."""
    shape = known_shape(files)
    count = parameters(shape) if shape else count_parameters(files.name)
    shipped = {path.stem: path.read_text() for path in (ROOT / "conf" / "chat_template").glob("*.jinja")}
    tokens, row = tokens_of(files, shipped), rates(count)
    config = {**files.config.get("text_config", {}), **files.config}  # of a model that reads images too, its text part
    dtype = config.get("dtype") or config.get("torch_dtype")
    values: dict[str, Any] = {
        "name": own_name(files),
        "model_name_or_path": files.name,
        "model_revision": files.revision,
        "dtype": dtype if dtype in HALF else "float32",
        "chat_template": tokens.template,
        "stop_tokens": tokens.stops,
        "pad_token": tokens.pad,
        "lora_target_modules": list(linears(shape)) if shape else ["all-linear"],
        "context_length": config.get("max_position_embeddings") or config.get("n_positions"),
        "parameters": count,
        "shape": sizes(shape) if shape else None,
    }
    values = {name: value for name, value in values.items() if value is not None}
    bos = bos_rule(files, shipped[tokens.template] if tokens.template else files.template or "")
    rated = f"learning rates for its size, unless you or tuning= name others: {row}, one epoch each"
    lines = [*said(files, values, bos), *made_of(files), rated]
    doubts = [*tokens.doubts, *kind(files), *drawn(files, config), *([] if shape else [unknown(files)])]
    comments = [
        "Made by `make profile` from the model's own files.",
        *made_of(files),
        f"Rates and lambda: {row.source}.",
    ]
    return Profile(values["name"], {"model": values, **options(row)}, lines, doubts, comments)


def said(files: ModelFiles, values: dict[str, Any], bos: str) -> list[str]:
    """Return what was found, in lines for the user."""
    at = f" at {files.revision[:8]}" if files.revision else ""
    size = f"{short(values['parameters'])} parameters" if "parameters" in values else "size unknown"
    template = f"template {values['chat_template']}" if "chat_template" in values else "its own template"
    end, *others = values["stop_tokens"] or ["?"]
    also = f", {', '.join(others)} stops too" if others else ""
    return [
        f"{files.name}{at}: {files.config.get('model_type')}, {size}, {values['dtype']}, "
        f"context of {values.get('context_length', '?')} tokens",
        f"{template}; {bos}; a turn ends with {end}{also}; padded with {values.get('pad_token', '?')}",
        f"LoRA would adapt {', '.join(values['lora_target_modules'])}",
    ]


def made_of(files: ModelFiles) -> list[str]:
    """Return the line about the GGUF file that a model was made from; none of any other."""
    if not files.gguf:
        return []
    return [f"made from {files.gguf['file']}, whose weights are {files.gguf['weights']}: training begins with those"]


def short(count: int) -> str:
    """Return a number of parameters as people say it: 135M, 8.03B."""
    power = max(0, min(3, (len(str(count)) - 1) // 3))
    return f"{count / 1000**power:.3g}{('', 'K', 'M', 'B')[power]}"


def known_shape(files: ModelFiles) -> Shape | None:
    """Return the shape that config.json gives; None for a family whose layers are not known."""
    return shape_from(files.config) if files.config.get("model_type") in FAMILIES else None


def sizes(shape: Shape) -> dict[str, Any]:
    """Return a shape as a profile has it: without what is not given."""
    return {name: value for name, value in vars(shape).items() if value not in (None, False, 0)}


def own_name(files: ModelFiles) -> str:
    """Return a profile's name: the repository's, or what the directory tells."""
    if files.revision:
        return plain_name(files.name.rpartition("/")[2])
    return told_name(expanded(files.name))


def told_name(path: Path) -> str:
    """Return a local model's name: its path's, or that of the first directory above it that says more."""
    path = path.resolve()
    told = (part.name for part in (path, *path.parents) if part.name and not STANDARD.fullmatch(part.name))
    return plain_name(next(told, "model").rpartition("--")[2])


def bos_rule(files: ModelFiles, template: str) -> str:
    """Return whether prompts begin with a BOS, in words.

    Raises:
        UserError: the tokenizer's file holds something else.
    """
    from tokenizers import Tokenizer

    bos = text_of(files.special.get("bos_token"))
    try:
        printed = bos and render(template, files, [{"role": "user", "content": "a"}], ask=True).startswith(bos)
    except Exception:  # a template is a program, and raises what it likes; the doubts say so
        printed = False
    number = next((number for number, token in added_tokens(files).items() if token == bos), None)
    try:
        ids = Tokenizer.from_str(json.dumps(files.tokenizer)).encode("a").ids
    except Exception as error:  # the library raises no kind of its own
        raise UserError(f"{files.name}: its tokenizer.json is no tokenizer ({error}): copy the model again") from None
    return f"{bos} begins a prompt" if printed or (bos and ids[:1] == [number]) else "no BOS"


def kind(files: ModelFiles) -> list[str]:
    """Return the doubt whether it is a base model or one that was tuned already."""
    if not files.template or INSTRUCT.search(own_name(files)):
        return []
    return [
        "base or instruct? It has a chat template, its name says neither; a comparison is best begun from a base model"
    ]


def drawn(files: ModelFiles, config: dict[str, Any]) -> list[str]:
    """Return the doubt about a tokenizer with more tokens than the model has embeddings."""
    inner = files.tokenizer.get("model", {}).get("vocab", ())
    ids = [*(inner.values() if isinstance(inner, dict) else range(len(inner))), *added_tokens(files)]
    tokens, rows = max(ids, default=-1) + 1, config.get("vocab_size")
    if not isinstance(rows, int) or tokens <= rows:
        return []
    return [
        f"its tokenizer has {tokens:,} tokens and the model {rows:,} embeddings: do they belong together? The missing "
        "ones are drawn at random"
    ]


def unknown(files: ModelFiles) -> str:
    """Return the doubt about a family whose layers are not known."""
    return f"a {files.config.get('model_type')} model's memory cannot be forecast, so whether it fits is not checked"
