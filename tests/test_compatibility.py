"""The table of what goes together: its page, its refusals, and each cell that a CPU can run against one process."""

import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cells import maker, train
from door import QUIET, ROOT, descendants, kill, losses, run
from safetensors.torch import load_file

from launch.config.compatibility import ZERO, Cell, cells, nearest, page, refusal, refuse_incompatible
from launch.config.compatibility import tested as trained_here
from launch.config.parallelism import DEEPSPEED, with_deepspeed
from launch.config.schema import Config
from recipes.config import UNMERGED, UserError, read_json
from recipes.methods import METHODS, PACKED
from recipes.system.files import SEAL
from recipes.training.merge import merge
from recipes.training.model import check_loadable

Words = Callable[..., list[str]]
Compose = Callable[..., Config]
Make = Callable[..., Path]
SHIM = str(Path(__file__).parent / "fsdp_on_cpu")
PATHS = with_deepspeed({"PYTHONPATH": f"{SHIM}{os.pathsep}{ROOT}"})
ONE = [cell for cell in cells() if trained_here(cell) and cell.strategy == "one"]
TWO = [cell for cell in cells() if trained_here(cell) and cell.strategy != "one"]
UNEVEN = 11  # pairs


def judges(cell: Cell) -> bool:
    """Whether RLOO's cells ask the reward model that this cell trains."""
    return (cell.method, cell.tuning, cell.engine, cell.strategy) == ("reward", "full", "packed", "one")


def trained(directory: Path) -> dict[str, Any]:
    """The trained weights: a model's, or its adapter's."""
    found = [path for path in directory.glob("*/*.safetensors") if path.parent.name in ("model", "adapter")]
    return load_file(found[0])


def apart(one: Path, other: Path) -> float:
    """How far apart the trained weights of two stages are, at most."""
    ours, theirs = trained(one), trained(other)
    assert ours.keys() == theirs.keys(), one
    return max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items())


def on_two_processes(directories: Iterable[Path]) -> list[str]:
    """The command that trains stages one after the other on two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [*torchrun, str(Path(__file__).parent / "two_processes.py"), *map(str, directories)]


@pytest.fixture(scope="module")
def single(make: Make) -> dict[Cell, Path]:
    """Every cell of one process, trained."""
    (judge,) = filter(judges, ONE)
    gc.freeze()  # as in two_processes.py
    reward = train(make(judge))
    others = {cell: make(cell, reward if cell.method == "rloo" else None) for cell in ONE if cell != judge}
    found = {judge: reward} | {cell: train(directory) for cell, directory in others.items()}
    gc.unfreeze()
    return found


@pytest.fixture(scope="module")
def uneven(words: Words, compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Stages on eleven pairs, which divide neither into batches nor over processes: of one, trained, and of two."""
    rows = [f"dataset.train_rows={UNEVEN}", "dataset.test_rows=5"]
    build = maker(words, compose, tmp_path_factory.mktemp("uneven"), *rows)
    found = {}
    for method in ("sft", "dpo", "orpo"):
        options = [f"{method}.{option}" for option in ("max_steps=-1", "num_train_epochs=2", "eval_strategy=epoch")]
        options += ["dpo.precompute_ref_log_probs=true"]  # each process scores its share
        one, two = (
            build(Cell(method, "full", strategy, False, "fp32", "packed"), None, *options)
            for strategy in ("one", "ddp")
        )
        found[method] = train(one), two
    return found


@pytest.fixture(scope="module")
def double(make: Make, single: dict[Cell, Path], uneven: dict[str, tuple[Path, Path]]) -> dict[Cell | str, Path]:
    """Every cell of two processes, trained in one pair of them, whose start costs more than a dozen cells."""
    (reward,) = (directory for cell, directory in single.items() if judges(cell))
    fsdp2 = Cell("orpo", "full", "fsdp2", False, "fp32", "packed")
    cells = [cell for cell in TWO if cell.strategy not in ZERO or DEEPSPEED.is_dir()]
    cells.sort(key=lambda cell: cell.strategy in ZERO)  # Accelerate hears of DeepSpeed once, and does not forget
    found: dict[Cell | str, Path] = {
        "sharded": make(fsdp2, None, "orpo.fsdp_config={state_dict_type:SHARDED_STATE_DICT}"),
        "bf16": make(replace(fsdp2, method="dpo", precision="bf16", engine="stock")),
    }
    found |= {f"uneven {method}": two for method, (_, two) in uneven.items()}
    found |= {cell: make(cell, reward if cell.method == "rloo" else None) for cell in cells}
    run(on_two_processes(found.values()), 0, ROOT, **PATHS)
    return found


def test_a_method_that_leaves_cells_to_another_names_one_that_is_trained_in_all_of_them() -> None:
    others = {name: method.forward_of for name, method in METHODS.items() if method.forward_of}
    assert others and not {*others} & {*others.values()} and {*others.values()} <= {*METHODS}
    for cell in cells():
        if trained_here(cell) and cell.method in others:
            assert trained_here(replace(cell, method=others[cell.method]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", *ZERO])
def test_two_processes_end_with_the_weights_of_one_in_every_cell_that_a_cpu_can_run(
    single: dict[Cell, Path],
    double: dict[Cell | str, Path],
    keep: Callable[[str, str, float], None],
    strategy: str,
) -> None:
    """`-s` prints how far apart the weights of the farthest cell are."""
    if strategy in ZERO and not DEEPSPEED.is_dir():
        pytest.skip("no DeepSpeed: run `make deepspeed`")
    trained_so = {cell: path for cell, path in double.items() if isinstance(cell, Cell) and cell.strategy == strategy}
    assert {"sft", "dpo", "orpo"} <= {cell.method for cell in trained_so}
    gaps = {}
    for cell, directory in trained_so.items():
        assert not (directory / "error.txt").exists(), (cell, (directory / "error.txt").read_text())
        gaps[cell] = apart(directory, single[replace(cell, strategy="one", offload=False)])
    assert all(0 < gap < 1 for cell, gap in gaps.items() if cell.method == "rloo"), gaps
    compared = {cell: gap for cell, gap in gaps.items() if cell.method != "rloo"}
    assert max(compared.values()) < 1e-5, compared
    for method in PACKED if strategy == "ddp" else ():
        keep(method, "two processes", max(gap for cell, gap in compared.items() if cell.method == method))
    print(f"\n{strategy}: {len(compared)} cells within {max(compared.values()):.1e} of one process")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_pairs_that_do_not_divide_over_two_processes_count_once(
    uneven: dict[str, tuple[Path, Path]], double: dict[Cell | str, Path], method: str
) -> None:
    """Accelerate fills the last batches up with pairs from the beginning; evaluation too."""
    one, two = uneven[method]
    assert apart(two, one) < 1e-6
    records = [read_json(path / UNMERGED) for path in (one, two)]
    assert [found["processes"] for found in records] == [1, 2] and records[0]["tokens"] == records[1]["tokens"]
    assert [found["pairs"] for found in records] == [2 * UNEVEN] * 2
    logs = [[json.loads(line) for line in (path / "log_history.jsonl").read_text().splitlines()] for path in (one, two)]
    ours, theirs = ([entry["eval_loss"] for entry in log if "eval_loss" in entry] for log in logs)
    assert len(ours) == 2 and theirs == pytest.approx(ours, rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_adapters_that_two_processes_sharded_are_merged_as_those_of_one(
    single: dict[Cell, Path], double: dict[Cell | str, Path]
) -> None:
    cell = Cell("orpo", "lora", "fsdp2", False, "fp32", "packed")
    found = []
    for directory in (double[cell], single[replace(cell, strategy="one")]):
        merge(directory)
        found.append(load_file(directory / "model" / "model.safetensors"))
    ours, theirs = found
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items()) < 1e-6


@pytest.mark.filterwarnings("ignore")
def test_fsdp2_that_saves_shards_is_told_and_its_bf16_has_the_right_first_loss(double: dict[Cell | str, Path]) -> None:
    assert "was saved and cannot be loaded" in (double["sharded"] / "error.txt").read_text()
    # of bf16 logits it would be 0.6914
    assert losses(double["bf16"])[0] == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not DEEPSPEED.is_dir(), reason="no DeepSpeed: run `make deepspeed`")
@pytest.mark.parametrize("strategy", ZERO)
def test_a_killed_zero_goes_on_from_its_checkpoint_and_ends_with_the_same_weights(
    make: Make, tmp_path: Path, strategy: str
) -> None:
    options = ("optim=adamw_torch", "learning_rate=1e-3", "max_steps=30", "save_strategy=steps", "save_steps=3")
    cell = Cell("orpo", "full", strategy, False, "fp32", "packed")
    killed, whole = (
        make(cell, None, *(f"orpo.{option}" for option in options), f"runs={tmp_path / name}")
        for name in ("killed", "whole")
    )
    with (tmp_path / "log.txt").open("w") as log:
        environment = os.environ | QUIET | PATHS
        process = subprocess.Popen(on_two_processes([killed]), cwd=ROOT, env=environment, stdout=log, stderr=log)
        while not (killed / "checkpoint-6" / SEAL).exists():
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.02)
        for pid in [process.pid, *descendants(process.pid)]:
            kill(pid)
        process.wait()
    assert not (killed / "model").exists()
    assert "resuming from checkpoint-" in run(on_two_processes([killed, whole]), 0, ROOT, **PATHS)
    check_loadable(killed / "model", "orpo")
    ours, theirs = trained(killed), trained(whole)
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items()) and ours.keys() == theirs.keys()


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
        (
            ["hardware=8x80gb-zero3", "tuning=lora", "model.dtype=float32"],
            "the base in bfloat16, .* use model.dtype=bf",
        ),
        (["hardware=1x16gb", "tuning=lora", "hardware.bf16=false", "model.dtype=float16"], "use model.dtype=float32"),
        (["hardware=1x24gb", "hardware.strategy=fsdp2"], "hardware.strategy=fsdp2 needs at least 2 processes"),
        (["hardware=8x80gb", "hardware.strategy=zero1"], "use one of ddp, fsdp2, zero2, zero3"),
        (["hardware=2x8x80gb", "hardware.nodes=3"], "is no multiple of hardware.nodes=3"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_nearest_that_does(
    compose: Compose, words: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        refuse_incompatible(compose("model=phi-3-mini", "batch_size=96", *words))
    assert len(str(refused.value).splitlines()) == 1
