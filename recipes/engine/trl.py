"""Everything that relies on undocumented parts of TRL, Transformers and Accelerate: a list, and the helpers for it.

Methods stay in their classes and are listed here. Each entry says where, what and why; the test in brackets fails when
upstream changes. `tests/test_private.py` compares the list with the code.

TRL's trainers
- recipes/engine/reference_free.py imports `trl.experimental`, the only place that has ORPO, CPO and SimPO
  [tests/test_packed.py::test_loss_and_gradients_are_stock_trls]
- recipes/engine/reference_free.py overrides `tokenize_row`: our ids instead of TRL's tokenization
  [tests/test_trainers.py::test_all_three_train_on_the_prepared_ids]
- recipes/orpo.py overrides `odds_ratio_loss` (a tuple by position): `ratio=probability`
  [tests/test_trainers.py::test_orpos_loss_and_gradient_are_the_papers]
- recipes/orpo.py overrides `concatenated_forward` (a tuple by position): `nll_span=completion`
  [tests/test_trainers.py::test_without_lambda_orpo_is_sft]
- recipes/engine/reference_free.py gives the constructor one row and sets `train_dataset` afterwards: TRL would map all
rows thrice
  [tests/test_packed.py::test_five_steps_give_stock_trls_weights_and_metrics]
- recipes/dpo.py overrides `_prepare_dataset`: TRL's DPO accepts no tokenized data set
  [tests/test_trainers.py::test_all_three_train_on_the_prepared_ids]
- recipes/dpo.py overrides `_precompute_ref_logps` to time it, recipes/engine/reference.py to keep its result for
resuming;
  TRL's constructor calls it before ours has finished
  [tests/test_engines.py::test_the_reference_is_scored_once_before_the_training_where_all_pairs_are_read]
- recipes/dpo.py lets `precompute_ref_log_probs` be null: the trainer decides
  [tests/test_engines.py::test_the_reference_is_scored_once_before_the_training_where_all_pairs_are_read]
- recipes/kto.py overrides `_prepare_dataset`, and sets `train_sampling_strategy` and `loss_type` around TRL's
constructor, which demands a fixed order and micro-batches of two: our mismatched responses are made in each step
  [tests/test_kto.py::test_loss_and_gradients_are_stock_trls]
- recipes/kto.py uses `DataCollatorForUnpairedPreference`: the batches of TRL's own trainer
  [tests/test_kto.py::test_loss_and_gradients_are_stock_trls]
- recipes/reward.py overrides `_prepare_dataset`: TRL's would filter rows by the lengths of their responses alone
  [tests/test_reward.py::test_five_steps_give_stock_trls_weights_and_metrics]
- `rename_metrics` reads `_metrics` and `_stored_metrics`: one name per logged quantity
  [tests/test_equal.py::test_metrics_of_one_name_mean_one_thing]
- `cast_by_trl` reads `_peft_has_been_casted_to_bf16`: ORPO and CPO under QLoRA compute under autocast
  [tests/test_equal.py::test_qlora_adapters_train_in_fp32_under_every_method]
- `train_adapters_in_float32` undoes the cast of QLoRA adapters to bf16
  [tests/test_equal.py::test_qlora_adapters_train_in_fp32_under_every_method]
- recipes/engine/trainer.py reads `aux_loss_enabled`: the auxiliary loss of a mixture of experts cannot be packed
  [tests/test_engines.py::test_a_mixtures_auxiliary_loss_is_refused_as_trl_would_train_it]
- recipes/rloo.py overrides `_tokenize_prompts` (a tuple by position): prompts are ids
  [tests/test_rlhf.py::test_rloo_answers_the_training_prompts_and_counts_all_that_is_computed]
- recipes/rloo.py overrides `_generate_and_score_completions` and `_compute_loss` to count what they compute
  [tests/test_rlhf.py::test_rloo_answers_the_training_prompts_and_counts_all_that_is_computed]
- recipes/rloo.py overrides `_get_train_sampler`, with a `RepeatSampler` whose `generator` an epoch sets: resumption
  [tests/test_rlhf.py::test_killed_stages_resume_bit_for_bit]
- recipes/rloo.py sets `eos_token_ids`: TRL would stop at the tokenizer's EOS too
  [tests/test_rlhf.py::test_rloo_answers_the_training_prompts_and_counts_all_that_is_computed]

Transformers' trainer and Accelerate
- recipes/engine/reference_point.py keeps KTO's point as an `ExportableState`: it survives an interruption
  [tests/test_unpaired.py::test_a_resumed_training_ends_bit_for_bit_alike]
- recipes/engine/trainer.py overrides `get_batch_samples`: an optimizer step's pairs are packed together
  [tests/test_packed.py::test_an_updates_gradient_does_not_depend_on_its_split]
- recipes/engine/trainer.py reads `end_of_dataloader` and `active_dataloader` of Accelerate: repeated pairs do not count
  [tests/test_compatibility.py::test_two_processes_end_with_the_weights_of_one_in_every_cell_that_a_cpu_can_run]
- recipes/engine/trainer.py uses `compute_loss_context_manager`: evaluation computes as training does
  [tests/test_packed.py::test_evaluation_does_not_depend_on_the_batch_size]
- `count_batches` replaces `data_collator` and adds `meter`: costs are counted as batches pass
  [tests/test_trainers.py::test_the_meter_counts_what_was_trained_on]
- `keep_outputs_in_float32` changes `fsdp_plugin_args`: a loss of bf16 outputs has only three digits
  [tests/test_compatibility.py::test_fsdp2_that_saves_shards_is_told_and_its_bf16_has_the_right_first_loss]
- `forgive_trackers` wraps the methods of tracking callbacks: W&B must not stop a training
  [tests/test_launch.py::test_an_unreachable_tracker_stops_no_training]
- `write_no_card` replaces `create_model_card`: TRL's card, beside every checkpoint, calls our start None
  [tests/test_demonstrations.py::test_sft_learns_from_demonstrations_and_dpo_and_orpo_from_the_pairs]
- recipes/training/cost.py is an `ExportableState` under the key `Count`: costs survive an interruption
  [tests/test_resume.py::test_a_killed_launcher_takes_its_stage_along_which_resumes_bit_for_bit]
- recipes/training/checkpoints.py wraps `get_batch_samples`: a training that was resumed at its end gets no more steps
  [tests/test_resume.py::test_a_kill_after_the_last_step_adds_none]
- recipes/training/checkpoints.py sets `save_total_limit` to null: an older checkpoint is deleted once the new one is
sealed
  [tests/test_resume.py::test_a_stage_is_finished_by_hand_as_by_the_launcher]

Models
- recipes/engine/forward.py replaces `forward` and reads `base_model(…).last_hidden_state`: no logits of all positions
  [tests/test_packed.py::test_loss_and_gradients_are_stock_trls]
- recipes/engine/forward.py copies a model with other `_modules`: its own code computes the logits of any states
  [tests/test_families.py::test_a_head_alone_without_what_the_model_does_around_it_is_seen]
- recipes/engine/rewards.py and self_check.py call a classifier's `score`: its reward is that of the last token
  [tests/test_reward.py::test_loss_and_gradients_are_stock_trls]
- recipes/engine/packing.py passes an `attention_mask` of four dimensions: Transformers makes none of its own, and all
layers hand this one to their attention
  [tests/test_families.py::test_loss_and_gradients_of_all_that_train_packed_are_stock_trls]
- recipes/engine/attention.py uses `sdpa_attention_forward` and `sdpa_mask`, and is registered under our own name
  [tests/test_packed.py::test_loss_and_gradients_are_stock_trls]
- recipes/engine/attention.py uses `varlen_attn`, new in PyTorch
  [tests/test_packing.py::test_the_variable_length_kernel_gets_the_same_dialogues]
- recipes/engine/attention.py calls `eager_attention_forward` of a model's own file for its `softcap` and `s_aux`
  [tests/test_families.py::test_loss_and_gradients_of_all_that_train_packed_are_stock_trls]
- recipes/engine/attention.py rejects a `position_bias`, and a `sliding_window` that only a mask would have
  [tests/test_unpackable.py::test_what_cannot_be_packed_is_refused_with_a_reason]
- recipes/training/model.py clears bitsandbytes' `support_avx512bf16_for_cpu`, which cuts gradients [no test: CPU-bound]
- recipes/training/model.py removes `auto_map` from what is saved: a saved model names no foreign code
  [tests/test_security.py::test_what_is_saved_names_no_code_and_an_adapter_beside_a_model_is_refused]
- recipes/training/reading.py and checks.py read `ds_numel`, `ds_shape` and `quant_state`: sizes of sharded weights
  [tests/test_compatibility.py::test_two_processes_end_with_the_weights_of_one_in_every_cell_that_a_cpu_can_run]
- recipes/data/chat.py rewrites tokenizers' JSON (`added_tokens`): text cannot become a special token
  [tests/test_render.py::test_the_ids_say_what_the_template_prints]
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer

from recipes.methods import Method


def rename_metrics(logs: dict[str, float], trainer: Any, method: Method) -> None:
    """Rename TRL's metrics after their meaning, in `logs` and in what TRL will add to it.

    TRL's trainers log different quantities under one name; a chart would overlay them.
    """
    stored = trainer._stored_metrics if hasattr(trainer, "_stored_metrics") else trainer._metrics
    reward = "reference" if method.reference_passes else "scaled"  # beta times a log-ratio, or times the log-prob
    names = {"logps/": f"logps_{method.logged_log_probs}/", "rewards/": f"rewards_{reward}/"}
    for metrics in (logs, *stored.values()):
        for key in list(metrics):
            for name, other in names.items():
                if key.removeprefix("eval_").startswith(name):
                    metrics[key.replace(name, other, 1)] = metrics.pop(key)


def cast_by_trl(trainer: Trainer) -> bool:
    """Whether TRL's ORPO or CPO has cast a quantized model to bf16, to compute under autocast."""
    return getattr(trainer, "_peft_has_been_casted_to_bf16", False)


def keep_outputs_in_float32(args: Any) -> None:
    """Undo Accelerate's cast of all outputs to bf16 under FSDP2, before any model is sharded.

    A loss of bf16 logits or log-probs has only three digits: DPO's first was 0.6914 instead of ln 2. Gradients are
    summed in float32, too, over processes and over micro-batches, as DDP does.
    """
    if args.fsdp_plugin_args and args.bf16:
        half = torch.bfloat16
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, output_dtype=torch.float32)
        args.fsdp_plugin_args["mixed_precision_policy"] = policy


def count_batches(trainer: Any, meter: Any) -> None:
    """Wrap the trainer's collator in a meter that counts what it collates; RLOO counts its samples itself."""
    trainer.data_collator = meter
    trainer.meter = meter


def forgive_trackers(trainer: Trainer) -> None:
    """Ignore errors of a tracker: the training and its own log files go on."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("transformers.integrations"):
            for name in (name for name in dir(callback) if name.startswith("on_")):
                setattr(callback, name, forgiving(getattr(callback, name)))


def write_no_card(trainer: Trainer) -> None:
    """Keep TRL from writing a README.md that says nothing right of our start; `make eval SUITE=card` writes ours."""
    trainer.create_model_card = lambda *_, **__: None


def forgiving(report: Callable[..., None]) -> Callable[..., None]:
    """Return a tracker's method that prints errors instead of raising them."""

    def attempt(*arguments: Any, **options: Any) -> None:
        try:
            report(*arguments, **options)
        except Exception as error:
            print(f"{report.__qualname__} failed, the training goes on: {error}", flush=True)

    return attempt


def train_adapters_in_float32(trainer: Trainer) -> None:
    """Undo TRL's cast of QLoRA adapters to bf16, in which a change of 1e-6 rounds to zero."""
    assert trainer.model is not None
    if hasattr(trainer.model, "peft_config"):
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
