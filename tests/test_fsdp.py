"""Packed training under FSDP2, on two processes with a shim that lets Accelerate shard on CPUs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from door import launch, record, short, stages
from safetensors.torch import load_file

Words = Callable[..., list[str]]
SHIM = str(Path(__file__).parent / "fsdp_on_cpu")
LN2 = 0.6931471805599453


@pytest.mark.parametrize("tuning, pipeline", [("full", "compare"), ("lora", "orpo")])
def test_sharded_weights_are_those_of_one_process(words: Words, tmp_path: Path, tuning: str, pipeline: str) -> None:
    """Plain gradient descent, so that weights differ as gradients do."""
    methods = ("sft", "dpo", "orpo") if pipeline == "compare" else ("orpo",)
    options = [f"pipeline={pipeline}", "evaluate=false", f"tuning={tuning}", "batch_size=8", *short(*methods)]
    options += [f"{method}.{word}" for method in methods for word in ("optim=sgd", "learning_rate=0.1")]
    launch(*words(tmp_path / "one", *options, "hardware.per_device_batch=8"))
    launch(*words(tmp_path / "fsdp", *options, "hardware.processes=2", "hardware.strategy=fsdp2"), PYTHONPATH=SHIM)
    for method in methods:
        (one,), (sharded,) = (stages(tmp_path / name, f"{method}-*") for name in ("one", "fsdp"))
        assert record(sharded)["processes"] == 2 and record(sharded)["pairs"] == record(one)["pairs"]
        theirs, ours = (load_file(path / "model" / "model.safetensors") for path in (one, sharded))
        assert ours.keys() == theirs.keys()
        for name, weight in theirs.items():
            assert (weight - ours[name]).abs().max() < 1e-6, name
        if method == "dpo":
            assert record(sharded)["first_loss"] == pytest.approx(LN2, abs=1e-5)
