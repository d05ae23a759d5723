"""Micro-batches and activation checkpointing: as much as the memory allows, and no other training for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.results.lineage import lineage
from eval.results.options import differences
from launch.config.machine import profile
from launch.config.schema import Config
from launch.config.shape import shape_of
from launch.forecast.cost import micro_batch
from launch.forecast.fit import TUNINGS
from launch.forecast.split import FREE, lengths, peak, room, unknown, ways, with_splits
from launch.plan import main
from launch.stages import micro_batch as retries
from launch.stages.digest import Planned, Start, plan
from launch.stages.run import OutOfMemory, prepare_directory
from recipes.config import FORMAT, OUT_OF_MEMORY, UserError, write_config
from recipes.profiles import Estimate

Compose = Callable[..., Config]
MODEL = ("model=phi-3-mini", "pipeline=compare", "judge=none")


def split(config: Config, stage: str) -> tuple[int, bool]:
    options = config.options[stage]
    return micro_batch(stage, options), options["activation_checkpointing"]


@pytest.fixture(scope="module")
def settings(compose: Compose) -> dict[str, Config]:
    """A setting of each tuning, with nothing chosen; composing takes longer than the tests."""
    return {kind: compose(*MODEL, "hardware=1x80gb", f"tuning={kind}") for kind in TUNINGS}


def on(config: Config, hardware: str, **values: Any) -> Config:
    """The same setting on another machine."""
    return replace(config, hardware=replace(profile(hardware), **values))


@pytest.mark.parametrize("hardware", ["1x12gb", "1x24gb", "1x40gb", "1x80gb", "1x141gb", "2x24gb", "8x80gb-ddp"])
def test_what_takes_more_memory_than_the_choice_does_not_fit(settings: dict[str, Config], hardware: str) -> None:
    for setting in settings.values():
        before = on(replace(setting, batch_size=48), hardware)
        config, limit, shape = with_splits(before), (1 - FREE) * (room(before) or 0) * 1e9, shape_of(setting.model)
        for stage in config.stages:
            tried, tokens = list(ways(before, stage)), lengths(before, stage)
            sizes = [size for size in range(48, 0, -1) if 48 // config.hardware.processes % size == 0]
            assert [micro_batch(stage, way) for way in tried] == sizes * 2
            peaks = [peak(before, stage, way, shape, tokens) for way in tried]
            chosen = tried.index(config.options[stage])
            assert all(found > limit for found in peaks[:chosen])
            assert peaks[chosen] <= limit or chosen == len(tried) - 1


def test_larger_machines_take_larger_micro_batches_and_no_checkpointing(settings: dict[str, Config]) -> None:
    machines = ("1x12gb", "1x24gb", "1x80gb", "1x141gb")
    found = [split(with_splits(on(settings["lora"], hardware)), "orpo") for hardware in machines]
    assert [checkpointing for _, checkpointing in found] == [True, True, False, False]
    assert found[0][0] < found[1][0] and 1 < found[2][0] < found[3][0]


def test_given_values_stand(compose: Compose, settings: dict[str, Config]) -> None:
    def chosen(**values: Any) -> tuple[int, bool]:
        return split(with_splits(on(settings["lora"], "1x80gb", **values)), "orpo")

    assert chosen()[0] > 2 and chosen(per_device_batch=2) == (2, False)
    given = ["hardware.activation_checkpointing=true", "sft.activation_checkpointing=true"]
    for word, others in zip(given, (True, False), strict=True):
        config = with_splits(compose(*MODEL, "hardware=1x80gb", "tuning=lora", word))
        assert split(config, "sft") == (32, True) and split(config, "orpo")[1] is others
    config = compose("hardware=cpu")
    assert with_splits(config).options == config.options


def test_where_nothing_is_known_the_least_is_taken(settings: dict[str, Config]) -> None:
    full = settings["full"]
    unmeasured, strange = on(full, "1x80gb", memory_gb=None), replace(full, model=replace(full.model, shape=None))
    small = on(full, "1x12gb")  # nothing fits
    for config in (unmeasured, strange, small):
        assert split(with_splits(config), "orpo") == (1, True)
    with pytest.raises(UserError, match=r"must be a multiple of hardware.processes=3 \(use 30 or 33\)"):
        with_splits(on(full, "1x80gb", processes=3))
    assert "memory of a device unknown" in str(unknown(unmeasured)) and "memory_gb=" in str(unknown(unmeasured))
    assert "phi-3-mini unknown" in str(unknown(strange)) and unknown(small) is None
    assert unknown(on(full, "1x80gb", memory_gb=None, per_device_batch=2)) is None


def test_where_the_micro_batch_changes_the_result_half_of_the_memory_is_left(settings: dict[str, Config]) -> None:
    lora = settings["lora"]
    orpo = lora.options["orpo"] | {"engine": "stock"}
    other = replace(lora, options=lora.options | {"orpo": orpo}, pipelines={"rlhf": ["orpo", "reward", "rloo"]})
    for hardware in ("1x40gb", "1x80gb", "1x141gb"):
        config, shape = with_splits(on(other, hardware)), shape_of(other.model)
        for stage, most in (("orpo", 0.5), ("reward", 0.9), ("rloo", 0.5)):
            taken = peak(config, stage, config.options[stage], shape, lengths(config, stage))
            assert taken <= most * (room(config) or 0) * 1e9, (hardware, stage)


def test_trls_kto_has_no_micro_batches_of_one_pair(settings: dict[str, Config]) -> None:
    lora = settings["lora"]

    def sizes(**options: Any) -> set[int]:
        config = replace(lora, options=lora.options | {"kto": lora.options["kto"] | options}, batch_size=8)
        return {micro_batch("kto", way) for way in ways(on(config, "1x80gb"), "kto")}

    assert sizes(engine="stock") == {2, 4, 8} and sizes() == {1, 2, 4, 8}


def test_without_an_estimate_every_dialogue_is_as_long_as_allowed(settings: dict[str, Config]) -> None:
    known = settings["lora"]
    unknown = replace(known, dataset=replace(known.dataset, estimate=Estimate()))
    assert lengths(known, "orpo").chosen == 358 and lengths(unknown, "orpo").chosen == known.dataset.max_length
    assert split(with_splits(unknown), "orpo")[0] < split(with_splits(known), "orpo")[0]


def test_a_stage_has_one_directory_on_every_gpu_and_in_every_pipeline(settings: dict[str, Config]) -> None:
    def named(hardware: str, setting: Config = settings["lora"], **values: Any) -> str:
        config = with_splits(on(setting, hardware, **values))
        return plan(config, ["orpo"], Start("base", None, "identity"), Path("pairs"), "rows")[0].config["digest"]

    lora, small, large = settings["lora"], "1x24gb", "1x80gb"
    assert named(small) == named(large) != named(small, replace(lora, batch_size=16))
    assert len({named(small), named(small, per_device_batch=1), named(small, activation_checkpointing=True)}) == 3
    for option in ({"engine": "stock"}, {"nll_mean": "micro_batch"}):  # where the micro-batch changes the result
        other = replace(lora, options=lora.options | {"orpo": lora.options["orpo"] | option})
        machines = ("1x24gb", "1x40gb", "1x80gb", "1x141gb")
        found = {(split(with_splits(on(other, name)), "orpo")[0], named(name, other)) for name in machines}
        assert 1 < len(found) == len({size for size, _ in found}) == len({digest for _, digest in found})
        longer = replace(other.dataset.estimate, chosen=900)  # found out later
        assert named(large, other) == named(large, replace(other, dataset=replace(other.dataset, estimate=longer)))
    alone = replace(lora, pipelines={"sft": ["sft"]})
    assert with_splits(alone).options["sft"] == with_splits(lora).options["sft"]


def test_the_plan_says_what_was_chosen(settings: dict[str, Config], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MODEL, "hardware=1x80gb", "tuning=lora"]) == 0
    size, _ = split(with_splits(settings["lora"]), "dpo")
    assert f"dpo, orpo: micro-batch {size}, no checkpointing, " in capsys.readouterr().out


def test_out_of_memory_takes_smaller_micro_batches_then_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(options: dict[str, Any]) -> list[tuple[int, bool]]:
        tried = []

        def run(stage: Planned, group: str) -> None:
            tried.append((options["per_device_train_batch_size"], options["activation_checkpointing"]))
            raise OutOfMemory("out of memory")

        monkeypatch.setattr(retries, "run_stage", run)
        with pytest.raises(OutOfMemory) as error:
            retries.run_as_it_fits(Planned(Path("x"), {"options": options}), "group")
        size = options["per_device_train_batch_size"]
        assert f"out of memory with micro-batches of {size} and activation checkpointing" in str(error.value)
        assert ("smaller hardware.per_device_batch" in str(error.value)) is (size > 1)
        return tried

    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "activation_checkpointing": False}
    assert failing({**options, "engine": "packed"}) == [(2, False), (1, False), (1, True)]
    assert failing({**options, "engine": "stock"}) == [(2, False), (2, True)]


def test_a_stage_goes_on_with_the_least_that_it_began_with(tmp_path: Path) -> None:
    error = tmp_path / "orpo-1" / "error.txt"

    def begin(size: int, checkpointing: bool) -> tuple[int, bool]:
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        options["activation_checkpointing"] = checkpointing
        values = {"format": FORMAT, "versions": {}, "options": options}
        prepare_directory(Planned(tmp_path / "orpo-1", values))
        return options["per_device_train_batch_size"], options["activation_checkpointing"]

    assert begin(2, True) == (2, True) and begin(4, False) == (4, False)  # written, but never started
    error.write_text(f"{OUT_OF_MEMORY}: …")
    assert begin(2, False) == (2, False) and begin(8, False) == (2, False)
    error.unlink()
    (tmp_path / "orpo-1" / "checkpoint-3").mkdir()
    assert begin(8, True) == (8, True) and begin(1, False) == (8, True)


def test_a_choice_without_effect_makes_no_other_experiment(tmp_path: Path) -> None:
    def began(engine: str, size: int) -> Path:
        directory = tmp_path / f"{engine}-{size}"
        directory.mkdir()
        options = {"engine": engine, "per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        options["activation_checkpointing"] = size == 4
        values = {"stage": "orpo", "start": "base", "pairs": "pairs", "options": options}
        write_config(directory, {"format": FORMAT, **values})
        return directory

    for engine, lines in (("packed", 0), ("stock", 2)):
        one, other = began(engine, 1), began(engine, 4)
        assert (lineage(one) == lineage(other)) is (engine == "packed")
        assert [len(table) - 1 for table in differences({"one": one, "other": other})] == [lines, 0]
