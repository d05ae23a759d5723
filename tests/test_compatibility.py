"""The table of what goes together: its page, its refusals, and each cell that a CPU can run against one process."""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from door import ROOT, losses, run
from safetensors.torch import load_file

from launch.compatibility import Cell, cells, nearest, page, refusal, refuse_incompatible
from launch.compatibility import tested as trained_here
from launch.inputs import chat_template, find_model
from launch.job import prepare_directory
from launch.pairs import pairs_directory, profile, sources, tokenise
from launch.plan import Start, plan
from recipes.config import Stage, UserError, read_json

Words = Callable[..., list[str]]
Compose = Callable[..., dict[str, Any]]
Make = Callable[..., Path]
SHIM = str(Path(__file__).parent / "fsdp_on_cpu")
ONE = [cell for cell in cells() if trained_here(cell) and cell.strategy == "one"]
TWO = [cell for cell in cells() if trained_here(cell) and cell.strategy != "one"]
# Plain gradient descent, so that weights differ as gradients do.
PLAIN = ("optim=sgd", "learning_rate=0.1", "max_steps=2", "warmup_steps=0", "save_strategy=no")


@pytest.fixture(scope="module")
def make(words: Words, compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Write the directory of a stage that would train the tiny model as a cell says; RLOO's asks `reward`."""
    runs = tmp_path_factory.mktemp("cells")
    common = words(runs, "batch_size=8")
    config = compose(*common)
    template = config["model"]["chat_template"] = chat_template(config["model"]["chat_template"])
    start, dataset = find_model(config["model"]), sources(config)[0]
    pairs = pairs_directory(config, start.identity)
    pairs.parent.mkdir()
    tokenise(dataset, [], profile(config), start, pairs, lambda line: None)
    fingerprint = read_json(pairs / "manifest.json")["fingerprint"]

    def build(cell: Cell, reward: Path | None = None, *more: str) -> Path:
        processes, strategy = (1, "ddp") if cell.strategy == "one" else (2, cell.strategy)
        options = [f"{cell.method}.{option}" for option in PLAIN]
        options += [f"tuning={cell.tuning}", f"hardware.processes={processes}", f"hardware.strategy={strategy}"]
        options += [] if cell.method in ("reward", "rloo") else [f"{cell.method}.engine={cell.engine}"]
        config = compose(*common, *options, f"hardware.bf16={cell.precision == 'bf16'}", *more)
        config["model"]["chat_template"] = template
        asked = Start(str(reward / "model"), None, "reward") if reward else None
        (planned,) = plan(config, [cell.method], start, pairs, fingerprint, asked)
        planned.config["versions"] = {}
        prepare_directory(planned)
        return planned.directory

    return build


def train(directory: Path) -> Path:
    """Train a stage in this process."""
    stage = Stage.load(directory)
    import_module(f"recipes.{stage.stage}").train(stage)
    return directory


def trained(directory: Path) -> dict[str, Any]:
    """The trained weights: a model's, or its adapter's."""
    found = [path for path in directory.glob("*/*.safetensors") if path.parent.name in ("model", "adapter")]
    return load_file(found[0])


def on_two_processes(directories: list[Path]) -> str:
    """Train stages one after the other on two processes, where FSDP2 may shard on CPUs."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = str(Path(__file__).parent / "two_processes.py")
    return run([*torchrun, script, *map(str, directories)], PYTHONPATH=f"{SHIM}{os.pathsep}{ROOT}")


@pytest.mark.filterwarnings("ignore")
def test_two_processes_end_with_the_weights_of_one_in_every_cell_that_a_cpu_can_run(make: Make) -> None:
    """All in one pair of processes, whose start costs more than a dozen cells."""
    (judge,) = (cell for cell in ONE if (cell.method, cell.tuning) == ("reward", "full"))
    reward = train(make(judge))
    asked = {cell: reward if cell.method == "rloo" else None for cell in (*ONE, *TWO)}
    single = {cell: reward if cell == judge else train(make(cell, asked[cell])) for cell in ONE}
    double = {cell: make(cell, asked[cell]) for cell in TWO}
    fsdp2 = Cell("orpo", "full", "fsdp2", False, "fp32", "packed")
    shards = make(fsdp2, None, "orpo.fsdp_config={state_dict_type:SHARDED_STATE_DICT}")
    half = make(replace(fsdp2, method="dpo", precision="bf16", engine="stock"))
    on_two_processes([*double.values(), shards, half])
    assert len(double) >= 36
    for cell, directory in double.items():
        assert not (directory / "error.txt").exists(), (cell, (directory / "error.txt").read_text())
        ours, theirs = trained(directory), trained(single[replace(cell, strategy="one")])
        assert ours.keys() == theirs.keys(), cell
        apart = max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items())
        assert apart < 1e-5 if cell.method != "rloo" else 0 < apart < 1, (cell, apart)
    assert "was saved and cannot be loaded" in (shards / "error.txt").read_text()
    # of bf16 logits it would be 0.6914
    assert losses(half)[0] == pytest.approx(math.log(2), abs=1e-3)


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "compatibility.md").read_text() == page(), "run `make docs`"


def test_every_refused_cell_has_a_supported_one_of_its_method_and_it_is_itself_where_nothing_is_wrong() -> None:
    for cell in cells():
        other = nearest(cell)
        assert refusal(other) is None and other.method == cell.method
        assert (other == cell) == (refusal(cell) is None)


@pytest.mark.parametrize(
    "words, said",
    [
        (["tuning=qlora", "hardware=8x80gb"], "use hardware.strategy=ddp"),
        (["tuning=qlora", "hardware=8x80gb-zero3"], "4-bit weights are loaded whole; use hardware.strategy=ddp"),
        (["tuning=qlora", "hardware=8x80gb-zero2", "hardware.offload=true"], "use hardware.offload=false"),
        (["hardware=8x80gb-ddp", "hardware.offload=true"], "use hardware.offload=false"),
        (["hardware=8x80gb-zero2", "orpo.engine=stock"], "bf16 logits; use orpo.engine=packed"),
        (["hardware=8x80gb-zero3", "pipeline=rlhf"], "reward with .* use hardware.strategy="),
        (["hardware=1x24gb", "hardware.strategy=fsdp2"], "one process has nobody to share with"),
        (["hardware=8x80gb", "hardware.strategy=zero1"], "use one of ddp, fsdp2, zero2, zero3"),
        (["hardware=2x8x80gb", "hardware.nodes=3"], "do not spread evenly over hardware.nodes=3"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_nearest_that_does(
    compose: Compose, words: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        refuse_incompatible(compose("model=phi-3-mini", "batch_size=96", *words))
    assert len(str(refused.value).splitlines()) == 1
