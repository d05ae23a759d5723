"""What `make show` marks is what the real trainers' losses cover, and a row that is not trained says why."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset as Rows
from door import look
from transformers import AutoModelForCausalLM

from doctor.masks import Masked, masks
from launch.config.schema import Config
from launch.show import show
from recipes.config import UserError
from recipes.dpo import DPOConfig, StockDPOTrainer
from recipes.orpo import ORPOConfig, StockORPOTrainer
from recipes.profiles import Model
from recipes.sft import SFTConfig, StockSFTTrainer
from recipes.training.tokenizer import load_tokenizer

Words = Callable[..., list[str]]
CONFIGS: dict[str, Any] = {"sft": SFTConfig, "dpo": DPOConfig, "orpo": ORPOConfig}
TRAINERS: dict[str, Any] = {"sft": StockSFTTrainer, "dpo": StockDPOTrainer, "orpo": StockORPOTrainer}
ROW = {"row": 0, "prompt_ids": [1, 9, 30, 31, 2], "chosen_ids": [40, 41, 42, 2], "rejected_ids": [50, 51, 2]}


def nll(model: Any, sequence: Masked, mask: list[bool]) -> torch.Tensor:
    """The negative log-probs, in nats, of the tokens under a mask, by the definition."""
    ids = torch.tensor([sequence.ids])
    with torch.no_grad():
        logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return -logps[torch.tensor(mask[1:])]


@pytest.fixture
def trainer(tiny_model: Path, tmp_path: Path, words: Words, compose: Callable[..., Config]) -> Callable[..., Any]:
    """Build a real trainer on the row, under composed options; return it, the model, a batch and all masks."""

    def make(stage: str, *more: str) -> tuple[Any, Any, Any, dict[str, Masked]]:
        config = compose(*words(tmp_path, *more))
        profile = Model("tiny", str(tiny_model), stop_tokens=["<|im_end|>"], pad_token="<|pad|>")
        tokenizer = load_tokenizer(profile, str(tiny_model))
        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        rows = Rows.from_list([ROW])
        args = CONFIGS[stage](**(config.options[stage] | {"output_dir": str(tmp_path), "engine": "stock"}))
        made = TRAINERS[stage](model, args=args, train_dataset=rows, processing_class=tokenizer)
        found = {sequence.name: sequence for sequence in masks(ROW, config.options)}
        return made, model.eval(), next(iter(made.get_train_dataloader())), found

    return make


@pytest.mark.parametrize("completion_only", [True, False])
def test_sfts_loss_covers_what_is_marked(trainer: Callable[..., Any], completion_only: bool) -> None:
    made, model, batch, found = trainer("sft", f"sft.completion_only_loss={str(completion_only).lower()}")
    sft = found["SFT"]
    assert sft.ids == ROW["prompt_ids"] + ROW["chosen_ids"] and not any(sft.compared)
    assert sum(sft.likelihood) == (4 if completion_only else 8)
    assert made.compute_loss(model, batch).item() == pytest.approx(
        float(nll(model, sft, sft.likelihood).mean()), rel=1e-5
    )


def test_dpo_compares_what_is_marked(trainer: Callable[..., Any]) -> None:
    made, model, batch, found = trainer("dpo")
    made.compute_loss(model, batch)
    for answer in ("chosen", "rejected"):
        sequence = found[f"DPO {answer}"]
        assert sequence.ids == ROW["prompt_ids"] + ROW[f"{answer}_ids"] and not any(sequence.likelihood)
        (logps,) = made._metrics["eval"][f"logps/{answer}"]
        assert logps == pytest.approx(-float(nll(model, sequence, sequence.compared).sum()), rel=1e-5)


def test_orpos_likelihood_and_comparison_cover_what_is_marked(trainer: Callable[..., Any]) -> None:
    made, model, batch, found = trainer("orpo")
    _, metrics = made.get_batch_loss_metrics(model, batch, train_eval="train")
    chosen, rejected = found["ORPO chosen"], found["ORPO rejected"]
    assert float(metrics["nll_loss"]) == pytest.approx(float(nll(model, chosen, chosen.likelihood).mean()), rel=1e-5)
    assert not any(rejected.likelihood)
    for answer, sequence in (("chosen", chosen), ("rejected", rejected)):
        logps = -float(nll(model, sequence, sequence.compared).mean())
        assert float(metrics[f"logps/{answer}"]) == pytest.approx(logps, rel=1e-5)


def test_the_span_of_orpos_likelihood_is_an_option(compose: Callable[..., Config]) -> None:
    config = compose("model=qwen2.5-0.5b")
    config.options["orpo"]["nll_span"] = "completion"
    (chosen,) = (sequence for sequence in masks(ROW, config.options) if sequence.name == "ORPO chosen")
    assert chosen.likelihood == chosen.compared == [False] * 5 + [True] * 4


def test_dpo_may_have_a_likelihood_term(compose: Callable[..., Config]) -> None:
    config = compose("model=qwen2.5-0.5b", "dpo.loss_type=[sigmoid,sft]")
    found = {sequence.name: sequence for sequence in masks(ROW, config.options)}
    assert found["DPO chosen"].likelihood == found["DPO chosen"].compared
    assert any(found["DPO rejected"].compared) and not any(found["DPO rejected"].likelihood)


def test_a_row_is_printed_token_by_token_with_its_marks(words: Words, tmp_path: Path) -> None:
    printed = look("launch.show", *words(tmp_path, "row=3"))
    titles = ["SFT", "DPO, SimPO, KTO chosen", "DPO, ORPO, CPO, SimPO, KTO rejected", "ORPO chosen", "CPO chosen"]
    assert re.findall(r"^(.*): \d+ tokens", printed, re.M) == titles
    blocks = dict(zip(titles, re.split(r"^.*: \d+ tokens.*\n", printed, flags=re.M)[1:], strict=True))

    def under(method: str, marks: str) -> str:
        return "".join(re.findall(rf"\{marks[0]}([^()\[\]{{}}«»]*)\{marks[1]}", blocks[method]))

    answer = "Ashford lies by the river. It is old and quiet. It is old and quiet.<|im_end|>"
    assert under("SFT", "[]") == under(titles[1], "{}") == under("ORPO chosen", "«»") == answer
    assert under("CPO chosen", "«»") == answer and not under("CPO chosen", "[]")
    assert "<|im_start|>assistant↵" in under("SFT", "()") and "<|im_start|>assistant↵" in under("ORPO chosen", "[]")
    assert under(titles[2], "{}") not in ("", answer)


def test_a_row_that_is_not_trained_says_why(words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Q{number}?", "chosen": f"A {number}.", "rejected": "No."} for number in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[4] | {"chosen": " "}, rows[4]]))
    for number, said in (
        (10, "dropped [policies.empty=drop]: the prompt or a response is empty"),
        (11, "an earlier row has the same"),
    ):
        show(words(tmp_path, f"dataset.path={file}", f"row={number}"))
        printed = capsys.readouterr().out
        assert said in printed and "Q4?" in printed and "tokens" not in printed
    for options, said in (
        (["dataset.test_fraction=0.9999"], "held out for evaluation"),
        (["dataset.validation_fraction=0.9999"], "held out to choose settings"),
        (["dataset.judge_fraction=0.9999", "pipeline=compare", "judge=trained"], "held out to train the judge"),
    ):
        every = [f"dataset.path={file}", *options]
        for number in range(1, 10):
            show(words(tmp_path, *every, f"row={number}"))
        assert said in capsys.readouterr().out


def test_a_row_of_a_mixture_is_named_with_its_source(
    words: Words, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "Q?", "chosen": "Yes.", "rejected": "No."}) + "\n")
    options = [word for word in words(tmp_path) if not word.startswith("dataset")]
    options.append(f"dataset=[{pairs_file},{other}]")
    show([*options, "row=other.jsonl:1"])
    assert "other.jsonl row 1: trained on" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"name the source too.*sources are pairs\.jsonl, other\.jsonl"):
        show([*options, "row=1"])


@pytest.mark.parametrize("word", ["row=0", "row=x", "row=-1", "row=1.5"])
def test_a_row_is_a_number_from_1(words: Words, tmp_path: Path, word: str) -> None:
    with pytest.raises(UserError, match="has rows 1 to 64"):
        show(words(tmp_path, word))


def test_a_row_that_is_not_there_is_one_line(words: Words, tmp_path: Path) -> None:
    printed = look("launch.show", *words(tmp_path, "row=65"), status=2)
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert "file has rows 1 to 64" in line and "Traceback" not in printed
