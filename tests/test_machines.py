"""Hardware profiles: which is found on a machine, and what fits on each."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launch.config.errors import unknown_profile
from launch.config.machine import PROFILES, detect, first_device, plain_profiles, profile
from launch.config.schema import Config, register
from launch.forecast.cost import micro_batch
from launch.forecast.split import with_splits
from launch.plan import main

Compose = Callable[..., Config]
WANTED = {"1x12gb", "1x16gb", "1x24gb", "1x40gb", "1x48gb", "1x80gb", "1x141gb", "2x24gb", "4x80gb", "8x80gb"}
# What nvidia-smi reports in MiB, and the profile that is found.
MACHINES = {
    "RTX 3060": ([12288], "1x12gb"),
    "T4": ([15360], "1x16gb"),
    "T4, ECC": ([15079], "1x16gb"),
    "RTX 4080": ([16376], "1x16gb"),
    "RTX A4500": ([20470], "1x16gb"),
    "L4": ([23034], "1x24gb"),
    "A10G": ([22731], "1x24gb"),
    "RTX 3090": ([24576], "1x24gb"),
    "RTX 5090": ([32607], "1x24gb"),
    "A100 40 GB": ([40960], "1x40gb"),
    "L40S": ([46068], "1x48gb"),
    "RTX A6000": ([49140], "1x48gb"),
    "A100 80 GB": ([81920], "1x80gb"),
    "H100": ([81559], "1x80gb"),
    "H200": ([143771], "1x141gb"),
    "two RTX 4090": ([24564] * 2, "2x24gb"),
    "two RTX A6000": ([49140] * 2, "1x48gb"),
    "two A100 40 GB": ([40960] * 2, "1x40gb"),
    "three A100 40 GB": ([40960] * 3, "1x40gb"),
    "a small one beside": ([8192, 24564], "1x24gb"),
    "three A100": ([81920] * 3, "1x80gb"),
    "four H100": ([81559] * 4, "4x80gb"),
    "eight H100": ([81559] * 8, "8x80gb"),
    "eight H200": ([143771] * 8, "8x80gb"),
    "RTX 3070": ([8192], "cpu"),
    "none": ([], "cpu"),
}


@pytest.fixture(autouse=True)
def all_gpus_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which GPUs of this machine may be used: the machines here are made up."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def stand_in(directory: Path, memories: list[int], capabilities: list[str]) -> None:
    """Write an nvidia-smi that knows two fields."""
    lines = {"memory.total": memories, "compute_cap": capabilities}
    cases = [f"*{field}*) {'; '.join(f'echo {value}' for value in lines[field]) or ':'};;" for field in lines]
    (directory / "nvidia-smi").write_text("\n".join(["#!/bin/sh", 'case "$1" in', *cases, "esac"]))
    (directory / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_gets_the_profile_of_its_gpus(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memories, expected = MACHINES[machine]
    stand_in(tmp_path, memories, [])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detect() == expected


@pytest.mark.parametrize(
    ("capabilities", "seen", "bf16"),
    [
        (["7.5"], None, False),  # T4
        (["8.9"], None, True),  # L4
        (["8.9", "7.0"], None, False),
        (["8.9", "7.0"], "0", True),
        (["[N/A]"], None, True),  # an old driver does not say
    ],
)
def test_gpus_without_bfloat16_train_in_float32(
    capabilities: list[str],
    seen: str | None,
    bf16: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compose: Compose,
) -> None:
    stand_in(tmp_path, [15360] * len(capabilities), capabilities)
    monkeypatch.setenv("PATH", str(tmp_path))
    if seen:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    register()
    config = compose("model=smollm2-135m")
    monkeypatch.undo()
    register()  # other tests see this machine again
    assert (config.hardware.name, config.hardware.bf16) == ("1x16gb", bf16)
    assert {config.options[stage]["bf16"] for stage in config.stages} == {bf16}


@pytest.mark.parametrize(("seen", "first"), [(None, "0"), ("2,3", "2"), ("GPU-1a,0", "GPU-1a"), ("", ""), ("-1", "")])
def test_one_process_gets_the_first_device_that_it_may_see(
    seen: str | None, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert first_device() == first


def test_profiles_are_what_their_names_say() -> None:
    found = plain_profiles()
    assert {name for _, _, name in found} >= WANTED and {expected for _, expected in MACHINES.values()} >= WANTED
    for count, size, name in found:
        machine = profile(name)
        assert (machine.processes, machine.memory_gb, machine.name) == (count, size, name)
        assert machine.per_device_batch is None and machine.activation_checkpointing is None
    assert profile("2x8x80gb").memory_gb == 80 and profile("8x80gb-offload").strategy == "fsdp2"


def cells(text: str) -> dict[str, list[str]]:
    """The rows of a printed table, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line[0] == "│"]
    return {name: row for name, *row in rows}


def test_what_fits_where(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell is what the plan of its profile and tuning would choose for the stage that needs the most."""
    assert main(["model=phi-3-mini", "pipeline=compare", "hardware=all"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    found = cells(said)
    assert {*found} == {path.stem for path in PROFILES.glob("*.yaml")} - {"cpu"}
    assert found["1x24gb"][0].startswith("no, ") and found["8x80gb"][2] == "refused"
    setting = compose("model=phi-3-mini", "pipeline=compare", "hardware=1x80gb", "tuning=lora")
    for name in ("1x24gb", "1x80gb", "8x80gb"):
        config = with_splits(replace(setting, hardware=profile(name)))
        chosen = {stage: config.options[stage] for stage in config.stages}
        checkpointing = [stage for stage in chosen if chosen[stage]["activation_checkpointing"]]
        size = min(micro_batch(stage, chosen[stage]) for stage in checkpointing or chosen)
        matched = re.fullmatch(r"(\d+)( ckpt)?, ([\d.]+) GB", found[name][1])
        assert matched and (int(matched[1]), bool(matched[2])) == (size, bool(checkpointing))
        assert float(matched[3]) <= 0.9 * (config.hardware.memory_gb or 0)


def test_profiles_of_users_are_read_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options of adapters are heeded, too: LoRA needs more with a larger rank."""
    files = {"1x40gb": "name: 1x40gb\nprocesses: 1\nmemory_gb: 40", "empty": "", "nameless": "processes: 1"}
    files |= {"mine": "defaults: [1x40gb, _self_]\nname: mine", "unmeasured": "name: unmeasured\nprocesses: 1"}
    files |= {"under": "defaults: [_self_, 1x40gb]\nprocesses: 2"}
    wrong = {"empty", "nameless", "worded", "misspelt", "circle", "around"}
    files |= {"worded": "name: worded\nprocesses: two", "misspelt": "name: misspelt\nprocesses: 1\nmemory: 24"}
    files |= {"circle": "defaults: [around]\nname: circle", "around": "defaults: [circle]\nname: around"}
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    for module in ("config.machine", "forecast.machines"):
        monkeypatch.setattr(f"launch.{module}.PROFILES", tmp_path)
    assert (profile("mine").memory_gb, profile("under").processes) == (40, 1)
    (tmp_path / "under.yaml").unlink()
    found = []
    for words in ([], ["model.lora_r=256"]):
        assert main(["model=phi-3-mini", "pipeline=orpo", "hardware=all", *words]) == 0
        said = capsys.readouterr().out
        assert {name for name in files if f"left out: conf/hardware/{name}.yaml" in said} == wrong
        found.append(cells(said))
        assert found[-1]["unmeasured"] == ["?"] * 3 and found[-1]["mine"] == found[-1]["1x40gb"]
    assert found[0]["mine"][0] == found[1]["mine"][0] and found[0]["mine"][1] != found[1]["mine"][1]


def test_a_launch_on_all_profiles_is_told_of_the_plan() -> None:
    assert "make plan" in str(unknown_profile("Could not find 'hardware/all'"))


@pytest.mark.parametrize(
    "word", ["tuning=lora", "hardware.per_device_batch=4", "seed=0,1", "tune=8", "model.shape=null"]
)
def test_what_the_table_would_not_heed_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=phi-3-mini", "hardware=all", word]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: ") and word.split("=")[0].removesuffix(".shape") in line
