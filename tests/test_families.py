"""docs/families.md is what the self-check says, and what it calls packed is TRL's: loss, gradients and steps."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from families import assert_same, rows_of
from trainers import FIVE_STEPS, Make, gradients, maker, move_away, train_alike

from dev.families import FAMILIES, model_of, page, verdict

PAGE = (Path(__file__).parent.parent / "docs" / "families.md").read_text()
PACKED = re.findall(r"^\| (\w+) \| \*\*packed", PAGE, re.M)
ENGINES = ("packed", "stock")
# Scaled logits, layers that hand a mask on and nothing else, capped scores, sinks.
SPECIAL = ("granite", "cohere", "cohere2", "stablelm", "nemotron", "gemma2", "gpt_oss")
# Mixtures multiply by groups, which PyTorch does not in float64; TRL's padding in float64 is NaN to the others' softmax
# in float32.
MIXTURES = {"deepseek_v3", "glm4_moe", "gpt_oss", "granitemoe", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"}
IN_FLOAT32 = MIXTURES | {"gemma2", "vaultgemma"}


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Make:
    """Build a trainer of a tiny random model of a family."""
    build = maker(tiny_model, tmp_path)

    def of_family(method: str, engine: str, family: str, rows: Any, **options: Any) -> Any:
        model = model_of(family, torch.float32 if family in IN_FLOAT32 else torch.float64)
        for name, weight in model.named_parameters():
            weight.requires_grad_(not re.search("vision|multi_modal", name))  # text has no gradient by them
        return build(method, engine, rows, family, start=model, **options)

    return of_family


def test_the_page_is_the_generated_one() -> None:
    assert page() == PAGE, "run `make docs`"


def test_the_page_has_every_family_that_others_test() -> None:
    assert {*SPECIAL} < {*PACKED} < {*FAMILIES} and len(PACKED) > 30


@pytest.mark.parametrize("family", PACKED)
def test_loss_and_gradients_of_all_that_train_packed_are_stock_trls(make: Make, family: str) -> None:
    (loss, found), (truth, expected) = (gradients(make("orpo", engine, family, rows_of(5))) for engine in ENGINES)
    assert loss == pytest.approx(truth, rel=1e-5)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("family", SPECIAL)
def test_a_reference_model_of_the_family_scores_packed_rows_too(make: Make, family: str) -> None:
    """DPO's reference has the policy's scale and caps: from a policy that has moved away, its loss is TRL's."""
    results = []
    for engine in ENGINES:
        options = {"beta": 0.3, "precompute_ref_log_probs": False}
        if family in MIXTURES:
            options["router_aux_loss_coef"] = 0.0
        trainer = make("dpo", engine, family, rows_of(5), **options)
        move_away(trainer)
        results.append(gradients(trainer))
    (loss, found), (truth, expected) = results
    assert loss == pytest.approx(truth, rel=1e-5)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_a_mixture_without_its_auxiliary_loss_trains_packed(make: Make, method: str) -> None:
    (loss, found), (truth, expected) = (
        gradients(make(method, engine, "qwen3_moe", rows_of(5), router_aux_loss_coef=0.0)) for engine in ENGINES
    )
    assert loss == pytest.approx(truth, rel=1e-5)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("family", SPECIAL)
def test_five_steps_end_with_stock_trls_weights(make: Make, family: str) -> None:
    packed, stock = (make("orpo", engine, family, rows_of(20), **FIVE_STEPS) for engine in ENGINES)
    train_alike(packed, stock)


@pytest.mark.parametrize("family", ["granite", "cohere", "cohere2", "gemma2"])
def test_a_head_alone_without_what_the_model_does_around_it_is_seen(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "recipes.engine.log_probs.logits_of", lambda model, states: model.get_output_embeddings()(states)
    )
    assert verdict(family, False) == "stock: its log-probs would be off"
