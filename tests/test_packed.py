"""Packed ORPO is stock TRL's ORPO: loss, gradients, steps and metrics, for every family of models; only cheaper."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from datasets import Dataset
from families import FAMILIES, assert_same, model_of, rows_of
from peft import LoraConfig
from torch import Tensor
from torch._dynamo.utils import counters
from trainers import FIVE_STEPS, train_alike
from transformers import PreTrainedTokenizerFast
from trl.trainer.utils import disable_dropout_in_model

from recipes.engine.packing import pack
from recipes.engine.trainer import as_inputs
from recipes.orpo import TRAINERS as ORPO_ENGINES
from recipes.orpo import ORPOConfig

Make = Callable[..., Any]


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)

    def build(engine: str, model: Any, rows: Dataset, peft: Any = None, **options: Any) -> Any:
        quiet: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
        fixed: dict[str, Any] = {"save_strategy": "no", "remove_unused_columns": False, "logging_steps": 1}
        given = {"output_dir": str(tmp_path), "max_steps": 1, "engine": engine, "activation_checkpointing": False}
        args = ORPOConfig(**{**quiet, **fixed, **given, **options})
        return ORPO_ENGINES[engine](model, args=args, train_dataset=rows, processing_class=tokenizer, peft_config=peft)

    return build


def loss_of(trainer: Any) -> Tensor:
    """The loss of all the trainer's rows as one micro-batch."""
    batch = trainer.data_collator(list(trainer.train_dataset))
    if trainer.args.engine == "packed":
        return trainer.compute_loss(trainer.model, as_inputs(pack(batch["pairs"], trainer.args.nll_span)))
    return trainer.get_batch_loss_metrics(trainer.model, batch)[0]


def gradients(trainer: Any) -> dict[str, Tensor]:
    named = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    return dict(zip(named, torch.autograd.grad(loss_of(trainer), list(named.values())), strict=True))


@pytest.mark.parametrize(
    "family, count, adapters",
    [*zip(FAMILIES, (16, 5, 8, 3, 9, 4, 2, 7), (False,) * 8, strict=True), ("Llama", 1, True), ("Phi", 6, True)],
)
def test_loss_and_gradients_are_stock_trls(make: Make, family: str, count: int, adapters: bool) -> None:
    rows = rows_of(count)
    targets = ["q_proj", "v_proj", "lm_head"]
    peft = [LoraConfig(r=4, target_modules=targets, init_lora_weights=False) if adapters else None for _ in range(2)]
    stock, packed = (
        make(engine, model_of(family), rows, one) for engine, one in zip(("stock", "packed"), peft, strict=True)
    )
    packed.model.load_state_dict(stock.model.state_dict())
    for beta in (0.0, 0.1, 1.0):
        for span in ("full", "completion"):
            for trainer in (stock, packed):
                trainer.beta, trainer.args.nll_span, trainer.nll_span = beta, span, span
            assert loss_of(packed).item() == pytest.approx(loss_of(stock).item(), rel=1e-5)
            assert_same(gradients(packed), gradients(stock), 1e-4)


def test_five_steps_give_stock_trls_weights_and_metrics(make: Make) -> None:
    rows = rows_of(20)
    stock, packed = (make(engine, model_of("Llama"), rows, **FIVE_STEPS) for engine in ("stock", "packed"))
    train_alike(packed, stock)
    for found, expected in zip(packed.state.log_history[:5], stock.state.log_history[:5], strict=True):
        assert found.keys() == {name for name in expected if not name.startswith("logits/")}
        assert found == {
            name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in expected.items() if name in found
        }


@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_is_rounded_after_the_bf16_logits(make: Make, autocast: bool) -> None:
    """The loss of bf16 logits is that of float64, and its gradient by them is rounded once, as it is handed to bf16.

    Stock TRL takes the softmax of a bf16 model in bf16, which moves this loss by a thousandth.
    """
    rows, dtype = rows_of(8), torch.float32 if autocast else torch.bfloat16
    half, exact = (make("packed", model_of("Llama", kind), rows) for kind in (dtype, torch.float64))
    made: list[Tensor] = []
    half.model.lm_head.register_forward_hook(lambda head, given, logits: made.append(logits))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = loss_of(half)
    (logits,) = made
    same = logits.detach().double().requires_grad_()
    exact.model.lm_head.register_forward_hook(lambda head, given, logits: same)
    truth = loss_of(exact)
    (found,), (expected,) = torch.autograd.grad(loss, logits), torch.autograd.grad(truth, same)
    assert logits.dtype == torch.bfloat16 and loss.item() == pytest.approx(truth.item(), rel=1e-5)
    once = 2**-8 * expected.abs() + 1e-6 * expected.abs().max()  # bf16 has 8 binary digits; float32 errs too
    assert ((found.double() - expected).abs() <= once).all()


@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_gradients_are_as_near_to_the_truth_as_stock_trls(make: Make, autocast: bool) -> None:
    """Most of the error is the layers', which are the same: of either, one batch may be the nearer by some 3%."""
    ratios, dtype = [], torch.float32 if autocast else torch.bfloat16
    for seed in range(4):
        rows, errors = rows_of(8, seed), {}
        truth = gradients(make("stock", model_of("Llama", dtype).double(), rows))
        for engine in ("stock", "packed"):
            trainer = make(engine, model_of("Llama", dtype), rows)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                found = gradients(trainer)
            squares = [(found[name].double() - value).square().sum().item() for name, value in truth.items()]
            errors[engine] = sum(squares) ** 0.5
        ratios.append(errors["packed"] / errors["stock"])
    assert mean(ratios) < 1.1


@pytest.mark.parametrize("size", [8, 4, 1])
def test_an_updates_gradient_does_not_depend_on_its_split(make: Make, size: int) -> None:
    """Nor does that of the last, smaller update: 11 pairs are updates of 8 and of 3."""
    rows, common = rows_of(11), {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd"}
    found = []
    for split in (8, size):
        parts = {"per_device_train_batch_size": split, "gradient_accumulation_steps": 8 // split}
        trainer = make("packed", model_of("Llama"), rows, **common, **parts)
        trainer.train()
        assert trainer.state.global_step == 4
        found.append(
            (
                dict(trainer.model.named_parameters()),
                [log["loss"] for log in trainer.state.log_history if "loss" in log],
            )
        )
    for name, weight in found[0][0].items():
        assert torch.allclose(weight, found[1][0][name], rtol=0, atol=1e-9), name
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-6)


def test_nll_mean_micro_batch_is_stock_trls_accumulation(make: Make) -> None:
    # plain gradient descent: Adam and clipping would hide gradients of another size
    options = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 0.1, "optim": "sgd"}
    options |= {"max_grad_norm": 1e9, "max_steps": 3}
    stock = make("stock", model_of("Llama"), rows_of(8), **options)
    packed = make("packed", model_of("Llama"), rows_of(8), nll_mean="micro_batch", **options)
    assert [trainer.train().global_step for trainer in (stock, packed)] == [3, 3]
    assert_same(dict(packed.model.named_parameters()), dict(stock.model.named_parameters()), 1e-6)
    ours, theirs = ([log["grad_norm"] for log in one.state.log_history[:3]] for one in (packed, stock))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_evaluation_does_not_depend_on_the_batch_size(make: Make) -> None:
    rows, found = rows_of(7), []
    for size in (1, 3, 7):
        trainer = make("packed", model_of("Llama"), rows, per_device_eval_batch_size=size)
        metrics = trainer.evaluate(rows)
        assert metrics["eval_loss"] == pytest.approx(loss_of(trainer).item(), rel=1e-6)
        found.append({name: value for name, value in metrics.items() if "/" in name or "loss" in name})
    assert found[1] == pytest.approx(found[0]) and found[2] == pytest.approx(found[0])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the head compute a few logits at once, and so many chunks be kept for the backward pass."""

    def limit(kept: int) -> None:
        monkeypatch.setattr("recipes.engine.log_probs.CHUNK_LOGITS", 512)
        monkeypatch.setattr("recipes.engine.log_probs.KEPT_CHUNKS", kept)

    return limit


def test_the_heads_chunks_give_the_same_gradient_kept_or_computed_again(
    make: Make, small_chunks: Callable[[int], None]
) -> None:
    """And a chunk that is kept is computed once: the head is called fewer times."""
    trainer, calls, found = make("packed", model_of("Llama"), rows_of(3)), [], []
    trainer.model.lm_head.register_forward_hook(lambda head, given, logits: calls.append(len(logits)))
    for kept in (0, 3, 10_000):
        small_chunks(kept)
        calls.clear()
        found.append((gradients(trainer), len(calls)))
    (again, twice), (some, less), (kept_all, once) = found
    for name, gradient in again.items():
        assert torch.equal(some[name], gradient) and torch.equal(kept_all[name], gradient), name
    assert twice == 2 * once and less == twice - 3 and once > 3


def test_dropout_before_the_head_is_the_same_when_it_is_computed_again(
    make: Make, small_chunks: Callable[[int], None]
) -> None:
    """The head's chunks are made twice; a second mask would give a gradient of another loss."""
    small_chunks(0)
    peft = LoraConfig(r=4, target_modules=["lm_head"], lora_dropout=0.5, init_lora_weights=False)
    trainer = make("packed", model_of("Llama"), rows_of(3), peft, disable_dropout=False)
    trainer.model.train()
    weight = next(weight for name, weight in trainer.model.named_parameters() if "lora_B" in name)

    def loss() -> Tensor:
        torch.manual_seed(3)
        return loss_of(trainer)

    (gradient,) = torch.autograd.grad(loss(), weight)
    step = 1e-6 * torch.randn_like(weight)
    with torch.no_grad():
        weight += step
        above = loss()
        weight -= 2 * step
        below = loss()
    assert (above - below).item() / 2 == pytest.approx((gradient * step).sum().item(), rel=1e-4)


def test_activation_checkpointing_changes_no_gradient(make: Make) -> None:
    rows = rows_of(4)
    plain, saving = (
        make("packed", model_of("Mistral"), rows, activation_checkpointing=saved) for saved in (False, True)
    )
    for trainer in (plain, saving):
        trainer.model.train()
        if trainer is saving:
            trainer.model.gradient_checkpointing_enable()
        disable_dropout_in_model(trainer.model)
    assert_same(gradients(saving), gradients(plain), 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_takes_the_same_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo traces the layers around the attention, as often whether or not the head's chunks vary in number.

    Eager kernels stand for a compiler's.
    """
    steps = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    compiling = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    traced, found = [], []
    for how, tokens in (({}, 1000), (compiling, 1000), (compiling, 7)):
        monkeypatch.setattr("recipes.engine.log_probs.CHUNK_LOGITS", tokens * model_of("Phi3").config.vocab_size)
        trainer = make("packed", model_of("Phi3"), rows_of(12), **steps, **how)
        torch.compiler.reset()
        counters.clear()
        trainer.train()
        traced.append(counters["frames"]["ok"])
        found.append(dict(trainer.model.named_parameters()))
    assert 0 == traced[0] < traced[1] == traced[2]
    for weights in found[1:]:
        assert_same(weights, found[0], 1e-6)
