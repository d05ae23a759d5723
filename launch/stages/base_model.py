"""The base model that every pipeline starts from: pretrained here for the embedded world, found elsewhere otherwise."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pocket
from launch.config.schema import Config
from launch.config.trust import looks_local
from launch.named.files import hub_file, read
from launch.stages.command import module
from launch.stages.digest import Start, digest, home
from launch.stages.inputs import find_model
from launch.stages.pairs import sources
from launch.stages.processes import call
from launch.stages.run import claim, discard_damaged_record, run, say
from recipes.config import FORMAT, UserError, done, read_config, read_json, write_config, write_json
from recipes.profiles import Model
from recipes.system.files import SEAL, flaw, seal
from recipes.system.fingerprint import fingerprint
from recipes.system.paths import expanded
from recipes.system.versions import versions

NO_POLICY = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
DEQUANTIZED = ("mxfp4",)  # by Transformers, as it loads them
BITSANDBYTES = "bitsandbytes"  # adapters train on its weights
# The default model comes with the repository, so that everyone starts from the same weights; `pocket.base` made it.
SHIPPED = {"medium": Path(pocket.__file__).parent / "pretrained"}


def find_base(config: Config) -> Start:
    """Return the base model, pretraining a missing pocket model.

    Raises:
        UserError: the model cannot be found, see `launch.stages.inputs`.
    """
    model, size = config.model, embedded(config.model)
    if size:
        return find_shipped(SHIPPED[size]) if size in SHIPPED else pretrain(config, size)
    start = find_model(model.model_name_or_path, model.model_revision)
    refuse_no_policy(start, config.tuning)
    if start.revision is None:  # the Hub's weights are downloaded when a stage loads them
        call(compare_weights, start.path)
    return start


def refuse_no_policy(start: Start, tuning: str) -> None:
    """Reject a model that would load, and not train as a policy: one of another kind, or with quantized weights.

    Raises:
        UserError: its config.json says so.
    """
    local = Path(start.path, "config.json")
    config = read(local if start.revision is None else hub_file(start.path, "config.json", start.revision))
    other = next((name for name in config.get("architectures") or [] if name.endswith(NO_POLICY)), None)
    if other:
        raise UserError(
            f"{start.path} is a {other}, not a causal language model: its LM head would be drawn at random, or would "
            "see the tokens that it predicts; name a causal language model"
        )
    quantized = config.get("quantization_config")
    method = (quantized or {}).get("quant_method", BITSANDBYTES)
    if quantized and method not in DEQUANTIZED and (method != BITSANDBYTES or tuning == "full"):
        raise UserError(
            f"{start.path} has weights quantized by {method}, which tuning={tuning} cannot train: name the model that "
            "it was made from"
        )


def compare_weights(path: str) -> None:
    """Compare a directory's weights with its config, in a process of its own that has the libraries, and silently."""
    from transformers.utils import logging

    from recipes.training.model import check_weights

    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)  # its report of the weights
    check_weights(path)


def embedded(model: Model) -> str | None:
    """Return the size of the embedded world's model; None if the model is another."""
    return model.pocket_size if model.model_name_or_path == "pocket" else None


def find_shipped(directory: Path) -> Start:
    """Return the pocket model that comes with the repository.

    Raises:
        UserError: it is damaged.
    """
    damage = flaw(directory)
    if damage:
        raise UserError(f"{directory}: {damage}; restore it: git checkout {directory}")
    return Start(os.path.relpath(directory), None, f"pocket-{digest(read_json(directory / SEAL))}")


def pretrain(config: Config, size: str) -> Start:
    """Return the pocket model of a size; its seed is fixed, so that `seed=` varies only the tuning."""
    directory, identity = pocket_directory(config.runs, size), pocket_identity(size)
    directory.mkdir(parents=True, exist_ok=True)
    with claim(directory):
        discard_damaged_record(directory)
        if not done(directory) or flaw(directory / "model"):
            call(check_source, config)
            say(f"the embedded world's base model is pretrained first, once, into {directory}")
            write_config(directory, {"format": FORMAT, "size": size, "seed": 0})
            run(module("pocket.base", directory), directory, "base", dict(os.environ), warm=True)
            seal(directory / "model")
            write_json(directory / "record.json", read_json(directory / "pretraining.json"))
    return Start(str(directory / "model"), None, f"pocket-{size}-{identity}")


def pocket_directory(runs: str, size: str) -> Path:
    """Return the directory of the pocket model of a size."""
    return Path(runs, "pocket", f"base-{size}-{pocket_identity(size)}")


def pretrained_before(config: Config) -> bool:
    """Whether the base model need not be pretrained here: it has been, or it is not the embedded world's."""
    size = embedded(config.model)
    return size is None or size in SHIPPED or done(pocket_directory(config.runs, size))


def pocket_identity(size: str) -> str:
    """Return the identity of a pocket model that is pretrained here: it changes when the model does."""
    return digest([size, fingerprint("pocket.base"), versions()["torch"]])


def known_identity(model: Model) -> str | None:
    """Return the identity of a base model as `find_base` would, from local files alone; None if it is not here."""
    from huggingface_hub import try_to_load_from_cache

    name = model.model_name_or_path
    size = embedded(model)
    if size:
        return find_shipped(SHIPPED[size]).identity if size in SHIPPED else f"pocket-{size}-{pocket_identity(size)}"
    if expanded(name).is_dir() or looks_local(name):
        return find_model(name, model.model_revision).identity
    cached = try_to_load_from_cache(name, "config.json", revision=model.model_revision)
    return f"{name}@{Path(cached).parent.name}" if isinstance(cached, str) else None


def check_source(config: Config) -> None:
    """Read the pairs before two minutes of pretraining, so that bad data is reported at once.

    Raises:
        UserError: see `recipes.data.rows`.
    """
    from recipes.data.rows import read_rows

    read_rows(sources(config.dataset) or [config.dataset])


def base_row(config: Config, start: Start, pairs: Path, fingerprint: str) -> Path:
    """Return a stage directory that trains nothing: the base model, to be evaluated like the trained ones."""
    name = f"base-{digest([start.identity, fingerprint, config.model.chat_template])}"
    directory = home(config) / name
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "stage": "base",
        "start": start.path,
        "start_revision": start.revision,
        "model": asdict(config.model),
    }
    discard_damaged_record(directory)
    if not done(directory) or not holds(directory, values):
        write_config(directory, values)
        write_json(directory / "record.json", {"stage": "base"})
    return directory


def holds(directory: Path, values: dict[str, Any]) -> bool:
    """Whether a directory's config.yaml is undamaged and has these values."""
    try:
        return read_config(directory) == values
    except UserError:
        return False
