"""Load the model of a stage directory, with the tokenizer, template and stop tokens of its training."""

import gc
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from recipes.config import UserError, done, read_config
from recipes.data.chat import Message, Refused, Renderer, ask_for_header, stop_ids
from recipes.profiles import Model
from recipes.system.hub import NO_CODE, WEIGHTS, reason

_held: dict[Path, Any] = {}  # the model loaded last: an evaluation needs it several times


def load(directory: Path) -> tuple[Any, PreTrainedTokenizerBase, list[int]]:
    """Return a stage's model, or the base model, with its tokenizer and the ids that end a response.

    Raises:
        UserError: the model was removed.
    """
    path, revision, profile = source(directory)
    tokenizer = load_tokenizer(path, revision, profile)
    if directory not in _held:
        give_back()  # before the next is loaded: two may not fit into memory
        _held[directory] = load_weights(path, revision)
    return _held[directory], tokenizer, stop_ids(tokenizer, profile)


def load_alone(path: str, revision: str | None) -> Any:
    """Return a model that another was compared with, after that one was given back: two may not fit into memory."""
    give_back()
    return load_weights(path, revision)


def give_back() -> None:
    """Give back the memory of the model loaded last, and of what else nobody holds."""
    _held.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_tokenizer(path: str, revision: str | None, profile: Model) -> PreTrainedTokenizerBase:
    """Return the tokenizer as training loads it; `recipes.training.model` would import TRL, which takes ten seconds."""
    tokenizer = pretrained(AutoTokenizer, path, revision)
    tokenizer.pad_token = profile.pad_token or tokenizer.pad_token
    tokenizer.chat_template = profile.chat_template or tokenizer.chat_template
    if tokenizer.chat_template:
        ask_for_header(tokenizer)
    return tokenizer


def load_weights(path: str, revision: str | None) -> Any:
    """Return a causal model for evaluation: bfloat16 on a GPU that computes in it, else float32."""
    disable_progress_bar()
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    options = {"dtype": dtype, **WEIGHTS}
    return pretrained(AutoModelForCausalLM, path, revision, **options).to("cuda" if gpu else "cpu").eval()


def pretrained(kind: Any, path: str, revision: str | None, **options: Any) -> Any:
    """Return what Transformers loads.

    Raises:
        UserError: it cannot be found or read.
    """
    try:
        return kind.from_pretrained(path, revision=revision, **NO_CODE | options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be loaded ({reason(error)[:250]}): name a model directory or a Hub id"
        ) from None


def context(model: Any) -> int:
    """Return how many tokens a model can read at once; a large number if its configuration has no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31


def load_renderer(directory: Path) -> Renderer:
    """Return the renderer of a stage's model, without loading weights.

    Raises:
        UserError: the model was removed.
    """
    path, revision, profile = source(directory)
    return Renderer(load_tokenizer(path, revision, profile), profile)


def source(directory: Path) -> tuple[str, str | None, Model]:
    """Return the path or Hub id of a stage's weights, their revision, and the model's profile.

    Raises:
        UserError: the model was removed.
    """
    config = read_config(directory)
    if "stage" not in config or config["stage"] == "reward":
        what = "a reward model, which writes no responses" if "stage" in config else "no trained stage"
        raise UserError(f"{directory} is {what}: name runs/<model>/<dataset>/<stage>-<digest>")
    if config["stage"] == "base":
        return config["start"], config["start_revision"], Model(**config["model"])
    if not (directory / "model").is_dir() and not done(directory):
        raise UserError(f"{directory} is not trained to the end: run the command that began it to resume")
    if not (directory / "model").is_dir():
        raise UserError(f"{directory}/model was removed: remove {directory} too, and train it again")
    return str(directory / "model"), None, Model(**config["model"])


def untuned(directory: Path) -> tuple[str, str | None]:
    """Return the base model that a stage descends from: a directory or Hub id, and its revision."""
    config = read_config(directory)
    before = Path(config["start"]).parent
    if (before / "config.yaml").is_file() and "start" in read_config(before):
        return untuned(before)
    return config["start"], config["start_revision"]


def prompt_ids(render: Renderer, dialogues: list[list[Message]]) -> list[list[int]]:
    """Return the ids of prompts, rendered and tokenized by the code that training uses.

    Raises:
        UserError: a dialogue does not end with a turn of the user or a tool, or the chat template rejects it.
    """
    for messages in dialogues:
        if not messages or messages[-1]["role"] not in ("user", "tool"):
            raise UserError("every prompt must end with a turn of the user or a tool: fix the prompts")
    try:
        texts = render.texts(dialogues)
    except Refused as error:
        raise UserError(f"the chat template of {render.name} rejects a prompt ({error}): fix or remove it") from None
    return [render.begin(ids) for ids in render.encode(texts)]
