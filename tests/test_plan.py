"""Same training, same directory; another training, another directory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launch.config.schema import Config
from launch.forecast import memory
from launch.stages.digest import Start, home, plan
from recipes.config import UserError
from recipes.engine import log_probs

START = Start("base/model", None, "identity")
Compose = Callable[..., Config]


def digests(config: Config, stages: list[str], start: Start = START, fingerprint: str = "rows") -> list[str]:
    return [planned.config["digest"] for planned in plan(config, stages, start, Path("pairs"), fingerprint)]


SMALL = "hardware.per_device_batch=8"  # so that other batches and processes divide
SAME = [
    "orpo.output_dir=x",
    "orpo.report_to=wandb",
    "orpo.logging_steps=3",
    "orpo.save_steps=7",
    "orpo.run_name=x",
    "eval_prompts=9",
    "runs=x",
    "dpo.beta=3",
]
OTHER = [
    "orpo.beta=0.7",
    "orpo.learning_rate=1e-2",
    "seed=1",
    "batch_size=64",
    "hardware.per_device_batch=4",
    "hardware.processes=2",
    "model.stop_tokens=[x]",
    "model.chat_template=x",
    "tuning=lora",
    "orpo.max_steps=3",
    "orpo.weight_decay=0.5",
]


@pytest.mark.parametrize("word", SAME)
def test_what_cannot_change_a_weight_keeps_the_directory(compose: Compose, word: str) -> None:
    assert digests(compose(SMALL, word), ["orpo"]) == digests(compose(SMALL), ["orpo"])


@pytest.mark.parametrize("word", OTHER)
def test_what_can_change_a_weight_changes_the_directory(compose: Compose, word: str) -> None:
    assert digests(compose(SMALL, word), ["orpo"]) != digests(compose(SMALL), ["orpo"])


def test_start_and_rows_change_the_directory(compose: Compose) -> None:
    config = compose()
    assert digests(config, ["orpo"], fingerprint="other") != digests(config, ["orpo"])
    assert digests(config, ["orpo"], Start("base/model", None, "other")) != digests(config, ["orpo"])
    assert digests(config, ["orpo"], Start("elsewhere", None, "identity")) == digests(config, ["orpo"])


def test_when_to_save_matters_once_the_best_checkpoint_is_chosen(compose: Compose) -> None:
    best = ["orpo.load_best_model_at_end=true", "orpo.eval_strategy=steps", "orpo.eval_steps=10"]
    assert digests(compose(*best, "orpo.save_steps=10"), ["orpo"]) != digests(
        compose(*best, "orpo.save_steps=20"), ["orpo"]
    )


def test_dpo_starts_from_sft_and_shares_it(compose: Compose) -> None:
    one, two = (plan(compose(f"dpo.beta={beta}"), ["sft", "dpo"], START, Path("p"), "rows") for beta in (0.1, 0.2))
    assert one[0].directory == two[0].directory and one[1].directory != two[1].directory
    assert one[1].config["start"] == str(one[0].directory / "model")
    other = digests(compose("sft.learning_rate=1e-9"), ["sft", "dpo"])
    assert other[1] != one[1].config["digest"], "another start is another DPO"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "_sessions", "x y"])
def test_names_cannot_leave_runs(compose: Compose, name: str) -> None:
    config = compose()
    config.model.name = name
    with pytest.raises(UserError, match="cannot name a directory"):
        home(config)


def test_the_forecast_knows_how_many_logits_the_engine_keeps() -> None:
    known = (memory.PACKED_CHUNK, memory.KEPT_CHUNKS)
    assert known == (log_probs.CHUNK_LOGITS, log_probs.KEPT_CHUNKS)
