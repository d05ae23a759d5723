"""Packed training under FSDP2, on two processes with a shim that lets Accelerate shard on CPUs."""

from collections.abc import Callable
from pathlib import Path

from door import launch, record, short, stages
from safetensors.torch import load_file

Words = Callable[..., list[str]]
SHIM = str(Path(__file__).parent / "fsdp_on_cpu")


def test_merged_sharded_adapters_are_those_of_one_process(words: Words, tmp_path: Path) -> None:
    """Plain gradient descent, so that weights differ as gradients do; every other cell: test_compatibility.py."""
    options = ["pipeline=orpo", "evaluate=false", "tuning=lora", "batch_size=8", *short("orpo")]
    options += ["orpo.optim=sgd", "orpo.learning_rate=0.1"]
    launch(*words(tmp_path / "one", *options, "hardware.per_device_batch=8"))
    launch(*words(tmp_path / "fsdp", *options, "hardware.processes=2", "hardware.strategy=fsdp2"), PYTHONPATH=SHIM)
    (one,), (sharded,) = (stages(tmp_path / name, "orpo-*") for name in ("one", "fsdp"))
    assert record(sharded)["processes"] == 2 and record(sharded)["pairs"] == record(one)["pairs"]
    theirs, ours = (load_file(path / "model" / "model.safetensors") for path in (one, sharded))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert (weight - ours[name]).abs().max() < 1e-6, name
