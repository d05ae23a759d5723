"""The trainers on our rows: the same ids, the documented losses, the paper's equations; ORPO by both engines."""

import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM

from recipes.config import UserError
from recipes.data.pairs import load_pairs
from recipes.data.prepare import prepare
from recipes.dpo import DPOConfig, StockDPOTrainer
from recipes.engine.packing import pack
from recipes.engine.trainer import as_inputs
from recipes.orpo import ORPOConfig, PackedORPOTrainer, StockORPOTrainer
from recipes.profiles import Dataset, Model
from recipes.sft import SFTConfig, StockSFTTrainer
from recipes.training.cost import Guard, Meter, all_finite
from recipes.training.tokenizer import load_tokenizer

KINDS: dict[str, Any] = {
    "sft": (StockSFTTrainer, partial(SFTConfig, engine="stock")),
    "dpo": (StockDPOTrainer, partial(DPOConfig, engine="stock")),
    "orpo": (PackedORPOTrainer, ORPOConfig),
    "stock orpo": (StockORPOTrainer, partial(ORPOConfig, engine="stock")),
}
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def rows(tiny_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetDict:
    directory = tmp_path_factory.mktemp("rows") / "pairs"
    model = Model("tiny", str(tiny_model), stop_tokens=["<|im_end|>"], pad_token="<|pad|>")
    dataset = Dataset("file", str(pairs_file), test_fraction=0.2)
    prepare(dataset, model, load_tokenizer(model, str(tiny_model)), directory, say=lambda _: None)
    return load_pairs(directory)


@pytest.fixture
def make(tiny_model: Path, rows: DatasetDict, tmp_path: Path) -> Make:
    """Build a recipe's trainer on the tiny model, in order and without dropout."""
    profile = Model("tiny", str(tiny_model), stop_tokens=["<|im_end|>"], pad_token="<|pad|>")

    def build(stage: str, some: DatasetDict = rows, **options: Any) -> Any:
        trainer, config = KINDS[stage]
        quiet: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
        fixed: dict[str, Any] = {"save_strategy": "no", "remove_unused_columns": False, "logging_steps": 1}
        plain: dict[str, Any] = {"logging_nan_inf_filter": False, "activation_checkpointing": False}
        args = config(**{"output_dir": str(tmp_path / stage), "max_steps": 2, **quiet, **fixed, **plain, **options})
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        tokenizer = load_tokenizer(profile, str(tiny_model))
        return trainer(model, args=args, train_dataset=some["train"], processing_class=tokenizer)

    return build


def collated(trainer: Any, count: int = 4) -> dict[str, Any]:
    return trainer.data_collator([trainer.train_dataset[index] for index in range(count)])


def unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]


def test_all_three_train_on_the_prepared_ids(make: Make, rows: DatasetDict) -> None:
    pairs = [rows["train"][index] for index in range(4)]
    chosen = [pair["prompt_ids"] + pair["chosen_ids"] for pair in pairs]
    rejected = [pair["prompt_ids"] + pair["rejected_ids"] for pair in pairs]
    sft, dpo, orpo, stock = (collated(make(stage)) for stage in KINDS)
    assert unpadded(sft["input_ids"], sft["attention_mask"]) == chosen
    assert unpadded(dpo["input_ids"], dpo["attention_mask"]) == chosen + rejected
    assert unpadded(stock["chosen_input_ids"], stock["chosen_attention_mask"]) == chosen
    assert unpadded(stock["rejected_input_ids"], stock["rejected_attention_mask"]) == rejected
    assert [pair.prompt + pair.chosen for pair in orpo["pairs"]] == chosen
    row = pack(orpo["pairs"], "full").input_ids[0].tolist()
    assert row == [*chain(*chosen), *chain(*(pair["rejected_ids"] for pair in pairs))]


def test_the_masks_cover_the_answers(make: Make, rows: DatasetDict) -> None:
    answers = [rows["train"][index]["chosen_ids"] for index in range(4)]
    sft, dpo = collated(make("sft", completion_only_loss=True)), collated(make("dpo"))
    orpo, stock = pack(collated(make("orpo"))["pairs"], "completion"), collated(make("stock orpo"))
    assert unpadded(sft["labels"], sft["labels"] != -100) == answers
    assert unpadded(dpo["input_ids"][:4], dpo["completion_mask"][:4]) == answers
    assert unpadded(stock["chosen_labels"], stock["chosen_labels"] != -100) == answers
    assert orpo.targets is not None
    assert [part.tolist() for part in orpo.targets.split(orpo.counts.flatten().tolist())][4:8] == answers


def paper_loss(model: Any, batch: dict[str, Any], weight: float, ratio: str) -> torch.Tensor:
    """Equations 3 to 7, or 16 for the ratio; the likelihood over prompt and answer, as the authors' code and TRL do."""
    means, likelihood = [], []
    for answer in ("chosen", "rejected"):
        ids, mask = batch[f"{answer}_input_ids"], batch[f"{answer}_attention_mask"]
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        tokens = log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
        scored = (batch[f"{answer}_labels"][:, 1:] != -100).float()
        means.append((tokens * scored).sum(1) / scored.sum(1))  # equation 3
        likelihood.append(-(tokens * mask[:, 1:]).sum() / mask[:, 1:].sum())
    logs = means if ratio == "probability" else [mean - torch.log(1 - mean.exp()) for mean in means]  # equation 4
    return likelihood[0] - weight * logsigmoid(logs[0] - logs[1]).mean()  # equations 6 and 7


def orpo_loss(trainer: Any, count: int = 4) -> torch.Tensor:
    batch = collated(trainer, count)
    if trainer.args.engine == "stock":
        return trainer.get_batch_loss_metrics(trainer.model, batch)[0]
    return trainer.compute_loss(trainer.model, as_inputs(pack(batch["pairs"], "full")))


@pytest.mark.parametrize("ratio", ["odds", "probability"])
@pytest.mark.parametrize("engine", ["orpo", "stock orpo"])
def test_orpos_loss_and_gradient_are_the_papers(make: Make, engine: str, ratio: str) -> None:
    trainer = make(engine, beta=0.7, ratio=ratio)
    model = trainer.model
    loss = orpo_loss(trainer)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    plain = make("stock orpo")
    expected = paper_loss(plain.model, collated(plain), 0.7, ratio)
    theirs = torch.autograd.grad(expected, list(plain.model.parameters()))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("engine", ["orpo", "stock orpo"])
def test_metrics_are_of_the_odds_whichever_ratio_is_trained(make: Make, engine: str) -> None:
    logs = []
    for ratio in ("odds", "probability"):
        trainer = make(engine, beta=0.7, ratio=ratio, max_steps=1)
        trainer.train()
        logs.append({name: value for name, value in trainer.state.log_history[0].items() if name != "grad_norm"})
    losses = [log.pop("loss") for log in logs]
    assert logs[0] == pytest.approx(logs[1]) and {"log_odds_ratio", "log_odds_chosen"} <= logs[0].keys()
    assert losses[0] != pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize("span, completion_only, ratio", [("full", False, "probability"), ("completion", True, "odds")])
@pytest.mark.parametrize("engine", ["orpo", "stock orpo"])
def test_without_lambda_orpo_is_sft(make: Make, engine: str, span: str, completion_only: bool, ratio: str) -> None:
    """Step for step: on prompt and answer, or on the answer only; whatever ratio counts for nothing."""
    orpo, sft = (
        make(engine, beta=0.0, nll_span=span, ratio=ratio, learning_rate=1e-3),
        make("sft", completion_only_loss=completion_only, learning_rate=1e-3),
    )
    for trainer in (orpo, sft):
        trainer.train()
    found, expected = ([log["loss"] for log in trainer.state.log_history if "loss" in log] for trainer in (orpo, sft))
    assert len(found) == 2 and found == pytest.approx(expected, abs=1e-5)


def test_dpo_starts_at_ln_2(make: Make) -> None:
    trainer = make("dpo")
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("stage", ["sft", "dpo", "orpo"])
def test_one_micro_batch_of_four_is_four_of_one(make: Make, stage: str) -> None:
    """Not so in stock ORPO, which averages its NLL term per micro-batch. By plain gradient descent, so that
    weights differ as gradients do: Adam would make an update of what is rounding in a gradient near zero.
    """
    found, plain = [], {"optim": "sgd", "learning_rate": 0.1}
    for size in (4, 1):
        trainer = make(stage, per_device_train_batch_size=size, gradient_accumulation_steps=4 // size, **plain)
        trainer.train()
        found.append({name: weight.detach().clone() for name, weight in trainer.model.named_parameters()})
    assert all(torch.allclose(weight, found[1][name], rtol=0, atol=1e-6) for name, weight in found[0].items())


def metered(trainer: Any, directory: Path) -> Meter:
    meter = Meter(directory, trainer.data_collator)
    trainer.data_collator = meter
    trainer.add_callback(meter.callback)
    trainer.add_callback(Guard(trainer, meter))
    return meter


def test_counts_of_more_than_64_bits_are_summed(tmp_path: Path) -> None:
    meter = Meter(tmp_path, lambda rows: {})
    meter.cost.inference_flops, meter.cost.seconds = 2**70, 0.5
    assert meter.total() == meter.cost


@pytest.mark.parametrize("stage", KINDS)
def test_the_meter_counts_what_was_trained_on(make: Make, rows: DatasetDict, tmp_path: Path, stage: str) -> None:
    """One epoch sees every pair once, whatever was collated ahead of its use."""
    trainer = make(
        stage, max_steps=-1, num_train_epochs=1, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    meter = metered(trainer, tmp_path)
    trainer.train()
    prompt, chosen, rejected = (
        sum(map(len, rows["train"][f"{part}_ids"])) for part in ("prompt", "chosen", "rejected")
    )
    assert meter.cost.pairs == len(rows["train"])
    assert meter.cost.tokens == (prompt + chosen if stage == "sft" else 2 * prompt + chosen + rejected)
    if stage == "orpo":
        assert meter.cost.computed_tokens == prompt + chosen + rejected, "each prompt once, and no padding"
    else:
        assert meter.cost.computed_tokens >= meter.cost.tokens
    assert not meter.waiting


@pytest.mark.parametrize("engine", ["orpo", "stock orpo"])
def test_the_guard_stops_before_the_update_and_names_its_rows(make: Make, tmp_path: Path, engine: str) -> None:
    trainer = make(engine, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    meter = metered(trainer, tmp_path)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.model.lm_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(UserError, match="not finite at optimizer step 1, train rows") as error:
        trainer.train()
    named = {int(word) for word in str(error.value).split("train rows ")[1].split(";")[0].split(", ")}
    assert len(named) == 4 and named <= {number + 1 for number in trainer.train_dataset["row"]}
    assert named == set(meter.rows_of_update())
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())


def test_large_gradients_are_finite_though_their_norm_is_not() -> None:
    large = [torch.full((4,), 1e30), torch.ones(2)]
    assert not torch.isfinite(torch.cat(large).norm()) and all_finite(large)
    for wrong in (float("inf"), float("nan")):
        assert not all_finite([*large, torch.tensor([wrong])]) and not all_finite([torch.tensor([1.0, wrong])])
