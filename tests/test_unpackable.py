"""What packed training cannot do is rejected with a reason: models with wrong log-probs, and some of TRL's options."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from families import GROUPED, VOCABULARY, rows_of
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from recipes.config import UserError
from recipes.dpo import DPOConfig
from recipes.engine import self_check, tolerance
from recipes.engine.self_check import add_checked_scoring, packed_log_probs
from recipes.orpo import ORPOConfig, PackedORPOTrainer
from recipes.sft import SFTConfig

CONFIGS: dict[str, Any] = {"sft": SFTConfig, "dpo": DPOConfig, "orpo": ORPOConfig}
MIXED = ["conv", "full_attention"]
REFUSED = {
    "Bloom": ({"hidden_size": 64, "n_layer": 2, "n_head": 4}, "none of its layers attend"),  # ALiBi: positions by mask
    "Mamba": ({"hidden_size": 64, "num_hidden_layers": 2}, "none of its layers attend"),  # a state over the row
    "Lfm2": ({**GROUPED, "layer_types": MIXED}, "only some of its layers attend"),  # convolutions
    "Llama4Text": ({**GROUPED, "num_local_experts": 4}, "attention chunk size"),  # of 8192 tokens: no check is as long
    "Mixtral": ({**GROUPED, "num_local_experts": 4, "output_router_logits": True}, "auxiliary loss"),
    "Phimoe": ({**GROUPED, "num_local_experts": 4, "sliding_window": 20}, "sliding window"),  # told to the mask alone
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_packed_is_refused_with_a_reason(family: str, tiny_model: Path, tmp_path: Path) -> None:
    shape, reason = REFUSED[family]
    config = getattr(transformers, f"{family}Config")(**{"vocab_size": VOCABULARY, **shape})
    model = AutoModelForCausalLM.from_config(config)
    options: dict[str, Any] = {"bf16": False, "activation_checkpointing": False, "remove_unused_columns": False}
    args = ORPOConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", **options)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)
    with pytest.raises(UserError, match=reason) as error:
        PackedORPOTrainer(model, args=args, train_dataset=rows_of(2), processing_class=tokenizer)
    assert "\n" not in str(error.value) and config.model_type in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_half_precision_refuses_what_differs_and_not_what_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {**GROUPED, "vocab_size": VOCABULARY}
    mixed = AutoModelForCausalLM.from_config(transformers.Lfm2Config(**shape, layer_types=MIXED), dtype=torch.bfloat16)
    with pytest.raises(UserError, match="only some of its layers attend"):
        add_checked_scoring(mixed, half=True)
    off = replace(self_check.LOG_PROBS, packed=lambda *given: packed_log_probs(*given) + 0.5)
    monkeypatch.setattr(self_check, "LOG_PROBS", off)
    for moved, accepted in ((0.01, False), (0.2, True)):  # by padding alone
        monkeypatch.setattr(tolerance, "rounding", lambda *_, moved=moved: moved)
        model = AutoModelForCausalLM.from_config(transformers.LlamaConfig(**shape), dtype=torch.bfloat16)
        with nullcontext() if accepted else pytest.raises(UserError, match=r"log-probs would be off by 0\.5"):
            add_checked_scoring(model, half=True)


class Widening(torch.nn.Module):
    """Its logits depend on nothing but the width of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(4.0))

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        logits = self.weight * input_ids.shape[1] / 64
        return SimpleNamespace(logits=logits.expand(*input_ids.shape, 4))


def test_rounding_is_what_padding_changes() -> None:
    dialogues = [[0, 1, 2, 3], [3, 3]]
    width = 4 + tolerance.PADDING

    def log_probs(tokens: int, ids: list[int]) -> torch.Tensor:
        return (torch.arange(4.0) * tokens / 64).log_softmax(-1)[ids[1:]]

    moved = torch.cat([log_probs(len(ids), ids) - log_probs(width, ids) for ids in dialogues]).abs().mean()
    assert tolerance.rounding(Widening(), dialogues) == pytest.approx(float(moved), rel=1e-5)


def test_a_weight_that_is_not_finite_is_named(tiny_model: Path, tmp_path: Path) -> None:
    """No engine would train it, so none is recommended."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    args = ORPOConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", bf16=False, remove_unused_columns=False)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj\.weight of .* is not finite: copy the model again"):
        PackedORPOTrainer(model, args=args, train_dataset=rows_of(2), processing_class=tokenizer)


@pytest.mark.parametrize(
    "method, options, said",
    [
        ("sft", {"engine": "fast"}, "use packed or stock"),
        ("sft", {"loss_type": "dft"}, "loss_type=dft needs engine=stock"),
        ("sft", {"shuffle_dataset": True}, "needs engine=stock"),
        ("dpo", {"loss_type": ["aot"]}, "loss_type=aot needs engine=stock"),
        ("dpo", {"ld_alpha": 0.5}, "ld_alpha=0.5 needs engine=stock"),
        ("dpo", {"sync_ref_model": True}, "sync_ref_model=True needs engine=stock"),
        ("orpo", {"engine": "fast"}, "use packed or stock"),
        ("orpo", {"nll_span": "answer"}, "use full or completion"),
        ("orpo", {"ratio": "log"}, "use odds or probability"),
        ("orpo", {"engine": "stock", "nll_mean": "update"}, "needs engine=packed"),
        ("orpo", {"generate_during_eval": True}, "needs engine=stock"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CONFIGS[method](output_dir="out", use_cpu=True, bf16=False, **options)
