"""`make plan`: figures that follow from the configuration, in seconds, without torch, weights or a GPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from door import PATIENCE, QUIET, ROOT, run

from launch.config.checks import refuse_useless
from launch.config.schema import Config
from launch.config.shape import shape_of
from launch.forecast.cost import forecast, largest, precomputed
from launch.forecast.fit import alternatives, check_memory, fits, nearest, worst
from launch.forecast.memory import MicroBatch
from launch.forecast.split import with_splits
from launch.forecast.tokens import Tokens
from launch.plan import main
from recipes.config import UserError

Compose = Callable[..., Config]
TOKENS = Tokens(6400, 100, 200, 150, "made")
CARD = ("model=phi-3-mini", "hardware=1x24gb", "pipeline=compare")
PREVIEW = [sys.executable, "-m", "launch.plan"]


def parts(config: Config, stage: str) -> Any:
    return forecast(config, stage, shape_of(config.model), TOKENS).memory


@pytest.mark.usefixtures("compose")  # which reads TRL's options once, for the cache
def test_it_says_what_fits_without_torch(tmp_path: Path) -> None:
    """Importing torch, TRL or Transformers would fail here: an empty module of each name raises."""
    for name in ("torch", "trl", "transformers", "datasets"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('imported')")
    environment = {**os.environ, **QUIET, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    answer = subprocess.run(
        [*PREVIEW, *CARD], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    said = answer.stdout
    assert "does not fit" in said and "tuning=lora" in said and "estimate" in said


def test_counted_pairs_take_the_estimates_place(tmp_path: Path, words: Callable[..., list[str]]) -> None:
    options = words(tmp_path / "runs", "pipeline=sft", "sft.max_steps=1")
    assert "no estimate" in run([*PREVIEW, *options], status=2)
    run([sys.executable, "-m", "launch", "--multirun", *options])
    assert "counted" in run([*PREVIEW, *options])


def weights(config: Config) -> int:
    assert config.model.parameters is not None
    return config.model.parameters


def test_weights_gradients_and_moments_are_four_numbers_of_a_parameter(compose: Compose) -> None:
    config = compose(*CARD)
    memory = parts(config, "sft")
    assert memory.weights == memory.gradients == memory.optimiser / 2 == 4 * weights(config)
    frozen = parts(compose(*CARD, "tuning=lora"), "sft")
    assert frozen.weights == 2 * weights(config) and frozen.gradients < 0.03 * memory.gradients
    assert parts(compose(*CARD, "tuning=qlora"), "sft").weights < 0.4 * frozen.weights


def test_a_reference_model_is_held_where_dpo_needs_one(compose: Compose) -> None:
    config = compose(*CARD, "dpo.max_steps=10")  # that reads not all pairs: none is scored before its turn
    assert parts(config, "dpo").reference == parts(config, "dpo").weights and parts(config, "orpo").reference == 0
    assert parts(compose(*CARD), "dpo").reference == 0
    assert parts(compose(*CARD, "dpo.precompute_ref_log_probs=false"), "dpo").reference > 0
    assert parts(compose(*CARD, "tuning=lora"), "dpo").reference == 0


@pytest.mark.parametrize(
    ("strategy", "tuning"), [("zero2", "full"), ("zero3", "full"), ("zero2", "lora"), ("fsdp2", "lora")]
)
def test_a_model_that_is_placed_late_scores_nothing_before_the_training(
    compose: Compose, strategy: str, tuning: str
) -> None:
    words = [*CARD, "hardware.processes=2", f"hardware.strategy={strategy}", f"tuning={tuning}", "pipeline=dpo"]
    config = compose(*words)
    refuse_useless(config)
    assert not precomputed(config, "dpo", TOKENS.pairs)
    assert precomputed(compose(*words, "hardware.strategy=ddp"), "dpo", TOKENS.pairs)
    with pytest.raises(UserError, match="precompute_ref_log_probs=true: with"):
        refuse_useless(compose(*words, "dpo.precompute_ref_log_probs=true"))


def test_several_processes_of_ddp_copy_their_gradients(compose: Compose) -> None:
    one, two = (parts(compose(*CARD, f"hardware.processes={count}"), "sft") for count in (1, 2))
    assert (one.buckets, two.buckets) == (0, two.gradients) and two.peak == one.peak + two.gradients


def test_a_gpu_without_bf16_has_no_known_rate(compose: Compose) -> None:
    for word, known in (("hardware.bf16=true", True), ("hardware.bf16=false", False)):
        config = compose(*CARD, word)
        assert (forecast(config, "sft", shape_of(config.model), TOKENS).hours is not None) == known


def test_stock_orpo_holds_logits_of_every_token_and_packed_a_chunk(compose: Compose) -> None:
    packed, stock = (
        parts(compose(*CARD, "tuning=lora", f"orpo.engine={engine}"), "orpo") for engine in ("packed", "stock")
    )
    config = compose(*CARD)
    assert stock.head > 2 * 4 * config.dataset.max_length * 32064 * 2 > packed.head


def forward(config: Config, tokens: float, scored: int, attended: int) -> float:
    """By hand: two operations for each weight that a token meets, four for each query, key, channel and layer."""
    shape = shape_of(config.model)
    head = shape.vocabulary * shape.hidden
    body = weights(config) - 2 * head  # the embedding, which is looked up, and the LM head
    return 2 * (body * tokens + head * scored) + 4 * shape.layers * shape.hidden * attended


def causal(length: int) -> int:
    return length * (length + 1) // 2


def test_flops_are_those_of_the_records_formula(compose: Compose) -> None:
    """Three times a forward pass, and once more of DPO's reference model; SFT and DPO score responses alone."""
    config = compose(*CARD, "batch_size=64")
    found = {stage: forecast(config, stage, shape_of(config.model), TOKENS) for stage in ("sft", "dpo", "orpo")}
    assert found["sft"].updates == 100 and found["sft"].tokens == 6400 * (100 + 200)
    assert found["sft"].flops == pytest.approx(3 * forward(config, 6400 * 300, 6400 * 200, 6400 * causal(300)))
    both = 6400 * (causal(300) + causal(250) - causal(100))
    assert found["dpo"].flops == pytest.approx(4 * forward(config, 6400 * 450, 6400 * 350, both))
    assert found["orpo"].tokens == 6400 * (100 + 200 + 150)
    assert found["orpo"].flops == pytest.approx(3 * forward(config, 6400 * 450, 6400 * 449, both))
    assert found["sft"].hours == pytest.approx(found["sft"].flops / (71e12 * 0.4) / 3600)
    again = compose(*CARD, "batch_size=64", "hardware.activation_checkpointing=true")
    for stage, passes in (("sft", 3), ("dpo", 4)):  # the policy's forward pass a second time, not the reference model's
        longer = forecast(again, stage, shape_of(config.model), TOKENS)
        assert longer.flops == found[stage].flops
        assert longer.hours == pytest.approx((found[stage].hours or 0) * (passes + 1) / passes)


def test_rloo_computes_each_answer_five_times_and_holds_three_models(compose: Compose) -> None:
    """Two answers to a prompt: sampled, scored and trained on by the policy, then the reference and reward model."""
    config = compose(*CARD, "pipeline=rlhf", "batch_size=64")
    shape = shape_of(config.model)
    found = forecast(config, "rloo", shape, TOKENS)
    assert found.updates == 100 and found.tokens == 2 * 6400 * (100 + 200)
    answered = 2 * 6400
    once, headless = (forward(config, answered * 300, scored, answered * causal(300)) for scored in (answered * 200, 0))
    assert found.flops == pytest.approx((2 + 3 + 1) * once + headless)
    assert found.memory.reference == 2 * found.memory.weights
    assert parts(compose(*CARD, "pipeline=rlhf", "rloo.beta=0"), "rloo").reference == found.memory.weights
    twice = forecast(compose(*CARD, "batch_size=64", "rloo.num_iterations=2"), "rloo", shape, TOKENS)
    assert twice.updates == 200 and twice.flops == pytest.approx((2 + 6 + 1) * once + headless)


def test_a_reward_model_has_one_output_and_no_lm_head(compose: Compose) -> None:
    """TRL's own computes it for every token, ours for the last of both responses."""
    config = compose(*CARD, "pipeline=rlhf", "batch_size=64", "hardware.per_device_batch=2")
    shape = shape_of(config.model)
    reward = forecast(config, "reward", shape, TOKENS)
    assert reward.tokens == 6400 * (100 + 200 + 150) and reward.memory.head == 0
    assert reward.memory.weights == 4 * (weights(config) - shape.vocabulary * shape.hidden)
    read = forward(config, reward.tokens, 0, 6400 * (causal(300) + causal(250) - causal(100)))
    assert reward.flops == pytest.approx(3 * (read + 2 * shape.hidden * 2 * 6400), rel=1e-12)
    config = compose(*CARD, "pipeline=rlhf", "batch_size=64", "hardware.per_device_batch=2", "reward.engine=stock")
    stock = forecast(config, "reward", shape, TOKENS)
    assert stock.tokens == 6400 * (2 * 100 + 200 + 150) and stock.memory.head == 0
    read = forward(config, stock.tokens, 0, 6400 * (causal(300) + causal(250)))
    assert stock.flops == pytest.approx(3 * (read + 2 * shape.hidden * stock.tokens), rel=1e-12)
    assert stock.memory.activations > reward.memory.activations


def test_what_is_advised_fits_and_is_the_nearest(compose: Compose) -> None:
    config = compose(*CARD)
    shape = shape_of(config.model)
    advised = nearest(config, shape, TOKENS)
    peaks = [(words, worst(other, shape, TOKENS).peak) for words, other in alternatives(config)]
    fitting = [words for words, peak in peaks if fits(config, peak)]
    assert advised.startswith(f"{fitting[0]} (")
    assert not fits(config, worst(config, shape, TOKENS).peak)
    again = with_splits(compose(*CARD, *fitting[0].split()))
    assert fits(again, worst(again, shape, TOKENS).peak)


def test_what_is_advised_is_another_setting(compose: Compose) -> None:
    """Also where one stage's checkpointing was given, or the data are longer than the estimate that was chosen by."""
    given = [words for words, _ in alternatives(with_splits(compose(*CARD, "sft.activation_checkpointing=false")))]
    least = "hardware.per_device_batch=1 hardware.activation_checkpointing=true"
    assert given[:2] == ["sft.activation_checkpointing=null", f"{least} sft.activation_checkpointing=true"]
    assert [words for words, _ in alternatives(with_splits(compose(*CARD)))][:2] == [least, "tuning=lora"]
    config = with_splits(compose("model=phi-3-mini", "hardware=1x80gb", "pipeline=compare", "tuning=lora"))
    longer, shape = Tokens(6400, 500, 500, 500, "counted"), shape_of(config.model)
    assert not fits(config, worst(config, shape, longer).peak)
    assert nearest(config, shape, longer).startswith(f"{least} (")


def test_a_launch_that_cannot_fit_is_refused(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"1x24gb has 24: use tuning=lora"):
        check_memory(compose(*CARD))
    check_memory(compose(*CARD, "tuning=lora"))
    check_memory(compose("hardware=cpu"))


def test_a_packed_micro_batch_has_no_padding(compose: Compose) -> None:
    config = compose(*CARD, "dataset.max_length=1000")
    assert largest(config, "orpo", TOKENS, 1).tokens == 100 + 2 * 900
    assert largest(config, "orpo", TOKENS, 3).tokens == 100 + 2 * 900 + 2 * 450
    assert largest(config, "dpo", TOKENS, 3) == MicroBatch(3000 - 200, 3000 - 500, 1000 + 2 * 250)
    assert largest(config, "sft", TOKENS, 3).tokens == 1000 + 2 * 300
    assert largest(config, "reward", TOKENS, 3) == MicroBatch(3000 - 200, 0, 1000 + 2 * 250)
    assert largest(compose(*CARD, "dpo.engine=stock", "dataset.max_length=1000"), "dpo", TOKENS, 3).tokens == 6 * 1000


REFUSED = {
    "orpo.engine=fast": "use packed or stock",
    "orpo.num_train_epochs=0": "leave nothing to train",
    "model.lora_r=0": "model.lora_r must be at least 1",
    "model.lora_target_modules=foo": "several of [qkv_proj,gate_up_proj,o_proj,down_proj]",
    "model.lora_target_modules=[foo,q_proj]": "matches no matrix of phi-3-mini",
    "hardware.memory_gb=-1": "hardware.memory_gb must be above 0",
    "orpo.max_length=9": "set dataset.max_length instead",
    "rloo.beta=1": "would do nothing",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_a_launch_refuses_is_not_forecast(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CARD, "tuning=lora", word]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: ") and word.split("=")[0] in line and REFUSED[word] in line


def test_targets_that_peft_finds_are_taken(compose: Compose) -> None:
    for targets in ("all-linear", ".*qkv_proj", "[qkv_proj,foo]", "[embed_tokens,self_attn.o_proj]"):
        refuse_useless(compose(*CARD, "tuning=lora", f"model.lora_target_modules={targets}"))
    refuse_useless(compose(*CARD, "model.lora_r=0"))  # without adapters it does nothing
