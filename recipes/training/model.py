"""Load and save a model the same way for every method."""

import re
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from peft import PeftConfig
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl import ModelConfig, get_peft_config, get_quantization_config

from recipes.config import Stage, UserError
from recipes.data.chat import stop_ids
from recipes.profiles import Model
from recipes.system.hub import NO_CODE, WEIGHTS, reason

REWARD = "reward"  # the stage whose model is a classifier
DROPOUT = re.compile("dropout|pdrop$")


def load_model(stage: Stage, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return a stage's initial checkpoint; build the trainer's arguments first, they arm sharded loading.

    A reward model is that model with a new head.

    Raises:
        UserError: see `pretrained`.
    """
    config = ModelConfig(**stage.model_options)
    quantisation = get_quantization_config(config)
    options: dict[str, Any] = {}
    if quantisation:
        options = {"quantization_config": quantisation, "device_map": {"": device()}}
    model = pretrained(stage, dtype=config.dtype, attn_implementation=config.attn_implementation, **options)
    keep_differentiable(model)
    if stage.stage == REWARD:
        start_head(model)
    return fit_to_tokenizer(model, stage.model, tokenizer)


def start_head(model: Any) -> None:
    """Set a classifier's head to zeros: at first all rewards are equal, and the loss is ln 2 for every seed.

    There is no symmetry that a random head would have to break.
    """
    torch.nn.init.zeros_(model.score.weight)
    # adapters train in float32, and the head with them, on a base in half precision
    model.score.register_forward_pre_hook(lambda head, inputs: (inputs[0].to(head.weight.dtype),))


def pretrained(stage: Stage, **options: Any) -> PreTrainedModel:
    """Return the weights a stage starts from, as they are stored; without dropout if the stage disables it.

    For a reward model, with a classifier's head of one output.

    TRL disables dropout modules but misses functional dropout: OPT would train with a tenth of its activations dropped,
    and DPO's first loss would not be ln 2.

    Raises:
        UserError: a file is missing or damaged, or the architecture is unknown.
    """
    try:
        config = AutoConfig.from_pretrained(stage.start, revision=stage.start_revision, **NO_CODE)
        for name, value in config.to_dict().items():
            if stage.options["disable_dropout"] and isinstance(value, float) and DROPOUT.search(name):
                setattr(config, name, 0.0)
        kind = AutoModelForCausalLM
        if stage.stage == REWARD:
            config.num_labels, kind = 1, AutoModelForSequenceClassification
        return kind.from_pretrained(stage.start, config=config, revision=stage.start_revision, **WEIGHTS, **options)
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
        raise UserError(
            f"{stage.start} has no model that can be loaded ({reason(error)}): copy or download it again, "
            "or check model.model_name_or_path"
        ) from None


def check_loadable(directory: Path, stage: str) -> None:
    """Let Transformers compare a saved model's names and shapes with its config, without reading weights.

    Raises:
        UserError: a weight is missing, or has another shape.
    """
    kind = AutoModelForSequenceClassification if stage == REWARD else AutoModelForCausalLM
    try:
        loaded: Any = kind.from_pretrained(directory, device_map="meta", output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{directory} was saved and cannot be loaded ({reason(error)}): run again") from None
    _, found = loaded
    bad = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"], *found["unexpected_keys"]]))
    if bad:
        raise UserError(f"{directory} was saved incompletely ({bad[0]}, …): run again from the last checkpoint")


def check_weights(path: str) -> None:
    """Let Transformers compare a language model's weights with its config, by names and shapes; no value is read.

    Raises:
        UserError: it cannot be loaded, or a weight is missing or has another shape: Transformers would draw it at
            random, or fail when a stage's turn comes.
    """
    kept: dict[str, Any] = {"device_map": "meta", "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, **kept, **WEIGHTS)
    except Exception as error:  # a missing file, package or architecture: each has its own kind
        raise UserError(
            f"{path} has no model that can be loaded ({reason(error)}): copy or download it again, "
            "or check model.model_name_or_path"
        ) from None
    _, found = loaded
    for said, keys in (("no", found["missing_keys"]), ("another shape of", found["mismatched_keys"])):
        names = sorted(key if isinstance(key, str) else key[0] for key in keys)
        if names:
            raise UserError(
                f"{path} has {said} {names[0]}{', …' * (len(names) > 1)}, which its config.json asks for: it is not a "
                "causal language model, or not complete; copy it again, or name another"
            )


def keep_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in the first forward pass in evaluation mode.

    CPUs with AVX512-BF16 compute faster with repacked weights, but no gradient passes through them, and they stay
    repacked when training continues: after an evaluation, or the self-check before the training, adapters would learn
    something else.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def fit_to_tokenizer(model: PreTrainedModel, profile: Model, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Set the model's pad and stop ids, so that the saved model generates correctly everywhere."""
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:  # ZeRO-3 may hold only a part of its weight
        model.resize_token_embeddings(len(tokenizer))
    model.config.use_cache = False
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.can_generate():
        assert model.generation_config is not None
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.generation_config.eos_token_id = stop_ids(tokenizer, profile)
    return model


def peft_config(stage: Stage) -> PeftConfig | None:
    """Return the adapter to train, or None for full fine-tuning.

    Raises:
        UserError: it has dropout, but dropout is disabled.
    """
    if stage.model_options["use_peft"] and stage.model_options["lora_dropout"] and stage.options["disable_dropout"]:
        raise UserError(
            f"model.lora_dropout={stage.model_options['lora_dropout']} would do nothing, dropout is disabled: "
            f"set it to 0, or set {stage.stage}.disable_dropout=false"
        )
    # with this task PEFT trains a reward model's full head
    task: dict[str, Any] = {"lora_task_type": "SEQ_CLS"} if stage.stage == REWARD else {}
    return get_peft_config(ModelConfig(**stage.model_options | task))


def device() -> str:
    """Return the device of this process: its own GPU, or the CPU."""
    from accelerate import PartialState

    return str(PartialState().device)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write weights and tokenizer, whole or not at all; without the code that the base model's files may name.

    Raises:
        UserError: a weight is not finite; nothing is written.
    """
    bad = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise UserError(f"{len(bad)} weights are not finite ({bad[0]}, …): nothing was saved; lower the learning rate")
    unfinished = directory.with_name(f".{directory.name}.partial")
    name_no_code(model, tokenizer)
    try:
        model.save_pretrained(str(unfinished))
        tokenizer.save_pretrained(str(unfinished))
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # a full disk needs the space


def name_no_code(model: Any, tokenizer: Any) -> None:
    """Let what is saved name no foreign code, which was not used."""
    model.config.__dict__.pop("auto_map", None)
    tokenizer.init_kwargs.pop("auto_map", None)
