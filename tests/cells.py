"""Stages that train the tiny model as a cell of the table of compatibility says."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

from launch.config.compatibility import Cell
from launch.config.schema import Config
from launch.stages.digest import Start, plan
from launch.stages.inputs import chat_template, find_model
from launch.stages.pairs import pairs_directory, tokenise
from launch.stages.run import prepare_directory
from recipes.config import Stage, read_json
from recipes.methods import METHODS

Words = Callable[..., list[str]]
Compose = Callable[..., Config]
Make = Callable[..., Path]
# Plain gradient descent, so that weights differ as gradients do.
PLAIN = ("optim=sgd", "learning_rate=0.1", "max_steps=2", "warmup_steps=0", "save_strategy=no")


def maker(words: Words, compose: Compose, runs: Path, *more: str) -> Make:
    """Return what writes the directory of a stage that would train as a cell says; RLOO's asks `reward`."""
    common = words(runs, "batch_size=8", *more)
    config = compose(*common)
    template = chat_template(config.model.chat_template)
    config.model.chat_template = template
    start = find_model(config.model.model_name_or_path, config.model.model_revision)
    pairs = pairs_directory(config, start.identity)
    pairs.parent.mkdir()
    tokenise(config.dataset, [], config.model, start, pairs, lambda line: None)
    fingerprint = read_json(pairs / "manifest.json")["fingerprint"]

    @cache
    def composed(*given: str) -> Config:
        config = compose(*common, *given)
        config.model.chat_template = template
        return config

    def build(cell: Cell, reward: Path | None = None, *more: str) -> Path:
        config = composed(*options(cell), *more)
        asked = Start(str(reward / "model"), None, "reward") if reward else None
        (planned,) = plan(config, [cell.method], start, pairs, fingerprint, asked)
        planned.config["versions"] = {}
        prepare_directory(planned)
        return planned.directory

    return build


def options(cell: Cell) -> list[str]:
    """Return a cell's options, given to every method: to compose them takes half a second, and other cells share it."""
    processes, strategy = (1, "ddp") if cell.strategy == "one" else (2, cell.strategy)
    found = [f"tuning={cell.tuning}", f"hardware.processes={processes}", f"hardware.strategy={strategy}"]
    found += ["model.dtype=float32"] if cell.tuning == "lora" else []  # the base's, which ZeRO-3 would not heed
    found += [f"hardware.offload={cell.offload}", f"hardware.bf16={cell.precision == 'bf16'}"]
    # Unclipped, a gradient's size shows; clipped, its norm over all processes does.
    for option in (*PLAIN, f"max_grad_norm={100 if cell.engine == 'packed' else 0.5}"):
        found += [f"{method}.{option}" for method in METHODS]
    return found + [f"{method}.engine={cell.engine}" for method in METHODS if METHODS[method].packs]


def train(directory: Path) -> Path:
    """Train a stage in this process."""
    stage = Stage.load(directory)
    import_module(f"recipes.{stage.stage}").train(stage)
    return directory
