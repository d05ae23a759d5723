"""KTO on responses without a partner: the paper's equations by plain forward passes, and TRL on its own schema."""

from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from families import FAMILIES, assert_same, model_of, rows_of
from test_kto import BAD, BETA, GOOD, OPTIONS, SCORES, moved
from trainers import FIVE_STEPS, Make, gradients, maker, train_alike
from transformers import PreTrainedTokenizerFast

from recipes.engine.mismatched import mismatched
from recipes.engine.packing import Pair, pack, pair_of
from recipes.kto import KTOConfig, PackedKTOTrainer
from recipes.training.cost import count_tokens
from recipes.training.reading import packed, padded

SIDES = ("chosen", "rejected")
QUIET: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
QUIET |= {"max_length": None, "max_steps": 1, "save_strategy": "no", "remove_unused_columns": False}


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer."""
    return maker(tiny_model, tmp_path)


def unpaired(count: int, kinds: str = "cr2c", seed: int = 0) -> Dataset:
    """Rows in turns of some kinds: a chosen response alone (c), a rejected one alone (r), or both (2)."""
    rows: Any = list(rows_of(count, seed))
    for place, row in enumerate(rows):
        kind = kinds[place % len(kinds)]
        row |= {f"{side}_ids": [] for side in SIDES if kind not in (side[0], "2")}
    return Dataset.from_list(rows)


def log_prob(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    """The log-prob of a response, summed, by the model's own forward pass over this dialogue alone."""
    scores = model(torch.tensor([prompt + response])).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    return scores.gather(-1, torch.tensor(response)[:, None]).sum()


@pytest.mark.parametrize("kinds", ["cr2c", "ccr", "c", "r"])
def test_loss_and_gradients_are_the_papers(make: Make, kinds: str) -> None:
    """Equation 8 as a mean over responses, in float64, one dialogue at a time; z is of each next row's prompt."""
    trainer = make("kto", "packed", unpaired(7, kinds), per_device_train_batch_size=7, **OPTIONS)
    moved(trainer)
    plain, frozen, rows = model_of("Llama"), model_of("Llama"), list(trainer.train_dataset)
    plain.load_state_dict({name: weight.detach() for name, weight in trainer.model.named_parameters()}, strict=False)
    wrong = [
        (prompt["prompt_ids"], row[f"{side}_ids"])
        for row, prompt in zip(rows, [*rows[1:], rows[0]], strict=True)
        for side in SIDES
        if row[f"{side}_ids"]
    ]
    with torch.no_grad():
        moves = [(log_prob(plain, *pair) - log_prob(frozen, *pair)).item() for pair in wrong]
    point, terms = max(0.0, sum(moves) / len(moves)), []
    for row in rows:
        for side, sign, weight in (("chosen", 1, GOOD), ("rejected", -1, BAD)):
            if response := row[f"{side}_ids"]:
                ratio = log_prob(plain, row["prompt_ids"], response) - log_prob(frozen, row["prompt_ids"], response)
                terms.append(weight * (1 - torch.sigmoid(BETA * sign * (ratio - point))))
    expected, named = torch.stack(terms).mean(), dict(plain.named_parameters())
    loss, found = gradients(trainer)
    theirs = dict(zip(named, torch.autograd.grad(expected, list(named.values())), strict=True))
    assert len(terms) < 14 and trainer.point.item() == pytest.approx(point, rel=1e-6)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert_same(found, {name: theirs[name] for name in found}, 1e-5)


@pytest.mark.parametrize("family, adapters", [*((family, False) for family in FAMILIES), ("Llama", True)])
def test_loss_and_gradients_are_stock_trls(make: Make, family: str, adapters: bool) -> None:
    found, expected = (
        make("kto", engine, unpaired(7), family, adapters, per_device_train_batch_size=7, **OPTIONS)
        for engine in ("packed", "stock")
    )
    moved(found, expected)
    (loss, ours), (truth, theirs) = gradients(found), gradients(expected)
    assert loss == pytest.approx(truth, rel=1e-5) and abs(truth - (GOOD + BAD) / 4) > 1e-3
    assert found.point.item() == pytest.approx(expected._metrics["train"]["kl"][-1], rel=1e-5, abs=1e-6)
    assert_same(ours, theirs, 1e-4)


def test_loss_and_gradients_are_those_of_trl_on_its_own_schema(tiny_model: Path, tmp_path: Path) -> None:
    """Its own trainer, tokenization and mismatched responses, of rows with a prompt, a completion and a label."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)
    said = ["Ashford lies by the river.", "No idea.", "It is old.", "Ask somebody else.", "Quiet.", "By the river."]
    rows = [
        {"prompt": f"Where is {place}?", "completion": f" {text}", "label": place % 3 == 0}
        for place, text in enumerate(said)
    ]
    model_of("Llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "start")

    def build(trainer: Any, config: Any, data: list[dict[str, Any]]) -> Any:
        model = model_of("Llama", vocab_size=len(tokenizer))
        model.config._name_or_path = str(tmp_path / "start")
        args = config(output_dir=str(tmp_path), per_device_train_batch_size=6, beta=BETA, **QUIET)
        args.desirable_weight, args.undesirable_weight = GOOD, BAD
        return trainer(model, args=args, train_dataset=Dataset.from_list(data), processing_class=tokenizer)

    expected = build(trl.KTOTrainer, trl.KTOConfig, rows)
    expected.desirable_weight, expected.undesirable_weight = GOOD, BAD
    ids = [
        {"prompt_ids": row["prompt_ids"]}
        | {f"{side}_ids": row["completion_ids"] if row["label"] is (side == "chosen") else [] for side in SIDES}
        for row in expected.train_dataset
    ]
    found = build(PackedKTOTrainer, KTOConfig, ids)
    moved(found, expected)
    (loss, ours), (truth, theirs) = gradients(found), gradients(expected)
    assert loss == pytest.approx(truth, rel=1e-5)
    assert found.point.item() == pytest.approx(expected._metrics["train"]["kl"][-1], rel=1e-5)
    assert_same(ours, theirs, 1e-4)


@pytest.mark.parametrize("kinds", ["cr2c", "cr"])
def test_five_steps_give_stock_trls_weights_and_metrics(make: Make, kinds: str) -> None:
    steps = {**FIVE_STEPS, **OPTIONS}
    stock, packed = (make("kto", engine, unpaired(20, kinds), **steps) for engine in ("stock", "packed"))
    moved(packed, stock)
    train_alike(packed, stock)
    of_pairs = ("rewards_reference/accuracies", "rewards_reference/margins")
    for found, expected in zip(packed.state.log_history[:5], stock.state.log_history[:5], strict=True):
        known = {name for name in expected if not name.startswith(SCORES) and name not in of_pairs}
        assert known == found.keys() - {*of_pairs}
        assert {name: found[name] for name in known} == {
            name: pytest.approx(expected[name], rel=1e-4, abs=1e-5) for name in known
        }
    assert any(entry["kl"] > 1e-3 for entry in packed.state.log_history[:5])
    assert any("rewards_reference/margins" in entry for entry in packed.state.log_history) is ("2" in kinds)


@pytest.mark.parametrize("kinds", ["cr2c", "ccr"])
def test_an_updates_gradient_does_not_depend_on_its_split(make: Make, kinds: str) -> None:
    """Nor does its reference point. Eleven rows are updates of eight and of three."""
    common = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 1e-2, "optim": "sgd", **OPTIONS}
    found = []
    for size in (8, 2, 1):
        parts = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make("kto", "packed", unpaired(11, kinds), **common, **parts)
        moved(trainer)
        trainer.train()
        found.append((dict(trainer.model.named_parameters()), trainer.state.log_history[:-1]))
    for weights, log in found[1:]:
        for name, weight in found[0][0].items():
            assert torch.allclose(weight, weights[name], rtol=0, atol=1e-9), name
        for name in ("kl", "rewards_reference/chosen", "rewards_reference/rejected", "logps_sum/chosen"):
            assert [entry.get(name) for entry in log] == [
                value if value is None else pytest.approx(value, rel=1e-5, abs=1e-7)
                for value in (entry.get(name) for entry in found[0][1])
            ]
    assert any(entry["kl"] > 1e-3 for entry in found[0][1])


def test_every_response_goes_to_another_prompt_once_however_rows_are_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = "cr2ccr2"
    pairs = [
        Pair([place], [10 + place] if kind in "c2" else [], [20 + place] if kind in "r2" else [])
        for place, kind in enumerate(kinds)
    ] + [Pair([7], [17], [], counted=False)]
    shares = [[pairs[0:2], pairs[4:6]], [pairs[2:4], pairs[6:8]]]
    monkeypatch.setattr("recipes.engine.mismatched.gather_object", lambda own: shares)
    found = [pair for process in (0, 1) for batch in mismatched(shares[process], process, None) for pair in batch]
    by_prompt = {pair.prompt[0]: pair for pair in found}
    for place, pair in enumerate(pairs[:7]):
        following = by_prompt[(place + 1) % 7]
        assert (following.chosen, following.rejected) == (pair.chosen, pair.rejected)
    assert by_prompt[7] == pairs[7]


def test_a_resumed_training_ends_bit_for_bit_alike(make: Make) -> None:
    """Nine rows are steps of four, four and one, which keeps the reference point of the step before."""
    common = {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-5}
    common |= {"gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 2, **OPTIONS}

    def build() -> Any:
        trainer = make("kto", "packed", unpaired(9), **common)
        moved(trainer)
        return trainer

    whole, resumed = build(), build()
    whole.train()
    resumed.point.zero_()  # as in a new process
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    assert whole.state.global_step == resumed.state.global_step == 3 and whole.point > 0
    assert resumed.state.log_history[-2]["kl"] == whole.state.log_history[-2]["kl"] > 0
    for name, weight in whole.model.named_parameters():
        assert torch.equal(weight, dict(resumed.model.named_parameters())[name]), name


def test_what_is_read_is_what_there_is() -> None:
    """A prompt counts once per response; attention and scored places as in a row of that dialogue alone."""
    alone = [Pair([1] * 5, [2] * 3, []), Pair([1] * 4, [], [2] * 6)]
    for pair, length in zip(alone, (8, 10), strict=True):
        assert count_tokens({"pairs": [pair]}) == (length, length)
        found = packed([pair], "completion")
        assert (found.tokens, found.attended) == (length, padded(1, length).attended)
        targets = pack([pair], "completion").targets
        assert targets is not None and found.scored == len(pair.chosen + pair.rejected) == len(targets)
    batch = pack([*alone, Pair([1], [2], [3]), Pair([1], [2], [], counted=False)], "completion")
    assert batch.weights.tolist() == [0.5, 0.5, 1, 0] and batch.items[1] == 2


def test_held_out_responses_count_alike_whatever_the_batch_size(make: Make) -> None:
    rows, found = unpaired(7, seed=1), []
    for size in (1, 3, 7):
        trainer = make("kto", "packed", unpaired(4), per_device_eval_batch_size=size, **OPTIONS)
        moved(trainer)
        trainer.point = torch.tensor(0.25)
        found.append({name: value for name, value in trainer.evaluate(rows).items() if "/" in name or "loss" in name})
    assert found[0] == pytest.approx(found[1]) and found[0] == pytest.approx(found[2])
    said = [pair_of(row) for row in rows]  # type: ignore[arg-type]
    with torch.no_grad():
        batch = pack(said, "completion")
        loss = trainer.loss(trainer.log_probs(trainer.model, batch), batch)
    assert loss.preference is not None
    expected = (loss.preference * batch.weights).sum() / batch.weights.sum()
    assert found[0]["eval_loss"] == pytest.approx(expected.item(), rel=1e-6)
