"""TRL's dataclasses are the only source of trainer options; what is wrong is said in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from trl import ModelConfig

from launch.config.errors import explain
from launch.config.schema import accumulate, micro_batch, register
from launch.config.trl_options import import_trl_options, trl_options
from recipes.config import UserError
from recipes.dpo import DPOConfig
from recipes.orpo import ORPOConfig
from recipes.reward import RewardConfig
from recipes.rloo import RLOOConfig
from recipes.sft import SFTConfig

CONFIGS = [("sft", SFTConfig), ("dpo", DPOConfig), ("orpo", ORPOConfig), ("reward", RewardConfig), ("rloo", RLOOConfig)]
HERE = {"use_cpu": True, "bf16": False, "output_dir": "out"}


@pytest.mark.parametrize("stage, config", CONFIGS)
def test_the_mirror_is_trls_own_defaults(stage: str, config: Any) -> None:
    mirrored = {name: default for name, (_, default) in trl_options()[stage].items()}
    assert config(**mirrored | HERE).to_dict() == config(**HERE).to_dict()


def test_the_model_mirror_is_trls_own_defaults() -> None:
    mirrored = {name: default for name, (_, default) in trl_options()["model"].items()}
    assert ModelConfig(**mirrored) == ModelConfig()


def test_the_cached_options_are_the_imported_ones() -> None:
    assert trl_options() == import_trl_options()


@pytest.mark.parametrize(
    "word, said",
    [
        ("orpo.lerning_rate=1", "orpo.lerning_rate: no such option; did you mean orpo.learning_rate?"),
        ("dpo.beta=strong", "dpo.beta=strong must be a number"),
        ("batch_size=many", "batch_size=many must be a whole number"),
        ("hardware.use_cpu=3.5", "hardware.use_cpu=3.5 must be true or false"),
        ("model=", "model= names nothing"),
        ("lr=1e-5", "did you mean sft.learning_rate or dpo.learning_rate or orpo.learning_rate?"),
        ("orpo.lr=1e-5", "did you mean orpo.learning_rate?"),
        ("seed=[0,1]", "several values of it have no brackets, seed=1,2"),
        ("dpo.betta=1", "did you mean dpo.beta?"),
        ("model.lora_rr=3", "did you mean model.lora_r?"),
        ("pipeline=opro", "did you mean orpo?"),
    ],
)
def test_a_wrong_word_is_explained_in_one_line(word: str, said: str) -> None:
    register()
    with (
        initialize_config_dir(str(Path(__file__).parent.parent / "conf"), version_base="1.3"),
        pytest.raises(Exception) as error,
    ):
        hydra_compose("config", [word])
    assert said in explain(error.value) and "\n" not in explain(error.value)


@pytest.mark.parametrize("word", ["+orpo.bta=1", "+foo=1", "+model.foo=1", "+dataset.foo=1"])
def test_a_plus_does_not_smuggle_an_option_in(compose: Callable[..., Any], word: str) -> None:
    with pytest.raises(UserError, match="no such option"):
        compose(word)


@pytest.mark.parametrize("batch_size, per_device, processes", [(32, 8, 1), (32, 4, 8), (7, 7, 1)])
def test_accumulation_makes_the_batch(batch_size: int, per_device: int, processes: int) -> None:
    assert accumulate(batch_size, per_device, processes) * per_device * processes == batch_size


@pytest.mark.parametrize(
    "batch_size, processes, size", [(64, 1, 8), (64, 4, 8), (4, 1, 4), (12, 1, 6), (12, 2, 6), (7, 2, 8)]
)
def test_a_micro_batch_divides_the_batch_where_one_can(
    compose: Callable[..., Any], batch_size: int, processes: int, size: int
) -> None:
    assert micro_batch(8, batch_size, processes) == size
    if batch_size % processes == 0:
        words = ("model=qwen3-0.6b-base", f"batch_size={batch_size}", f"hardware.processes={processes}")
        options = compose(*words, "hardware=cpu").options["orpo"]
        made = options["per_device_train_batch_size"] * options["gradient_accumulation_steps"] * processes
        assert options["per_device_train_batch_size"] == size and made == batch_size


@pytest.mark.parametrize("batch_size, per_device, processes", [(17, 8, 1), (3, 8, 1), (100, 8, 3)])
def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(
    batch_size: int, per_device: int, processes: int
) -> None:
    with pytest.raises(UserError) as error:
        accumulate(batch_size, per_device, processes)
    suggestion = int(str(error.value).split("use batch_size=")[1].split(",")[0])
    assert accumulate(suggestion, per_device, processes) >= 1
