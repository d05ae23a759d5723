"""Tiny random models without a profile, each with the tokens, settings and template of a published family's form."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 2048, "vocab_size": 320}
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA_3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ first if loop.first else '' }}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN_3 = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' and loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
    "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """How a model's files are made, and what must be found in them."""

    config: str  # the class of its configuration
    special: list[str]  # tokens
    named: dict[str, str]  # those that the tokenizer names, such as its EOS
    ends: list[str]  # at which generation_config.json stops
    template: str | None
    stops: list[str]
    pad: str
    text: list[str] = field(default_factory=list)  # added tokens that are no special ones
    bos: bool = False  # whether the tokenizer begins a text with its BOS
    more: dict[str, Any] = field(default_factory=dict)  # of the configuration


OF_LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
OF_QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>"]
OF_GEMMA = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
FAMILIES = {
    "llama-3.2": Family(
        "LlamaConfig",
        [*OF_LLAMA, "<|finetune_right_pad_id|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ["<|end_of_text|>", "<|eot_id|>"],
        LLAMA_3,
        ["<|eot_id|>", "<|end_of_text|>"],
        "<|finetune_right_pad_id|>",
        bos=True,
    ),
    "gemma-3": Family(
        "Gemma3TextConfig",
        OF_GEMMA,
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        ["<eos>", "<end_of_turn>"],
        GEMMA_3,
        ["<end_of_turn>", "<eos>"],
        "<pad>",
        bos=True,
        more={"head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "qwen3": Family(
        "Qwen3Config",
        OF_QWEN,
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        ["<|im_end|>", "<|endoftext|>"],
        QWEN_3,
        ["<|im_end|>", "<|endoftext|>"],
        "<|vision_pad|>",
        text=["<think>", "</think>"],
        more={"head_dim": 16, "tie_word_embeddings": True},
    ),
    "mistral-v0.3": Family(
        "MistralConfig",
        ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        ["</s>"],
        MISTRAL,
        ["</s>"],
        "<unk>",
        bos=True,
        more={"sliding_window": None},
    ),
}
# Base models, whose template is one of ours by the tokens that they have.
BASES = {
    "llama-3": Family("LlamaConfig", OF_LLAMA, {"eos_token": "<|end_of_text|>"}, ["<|end_of_text|>"], None, [], ""),
    "chatml": Family("Qwen2Config", OF_QWEN, {"eos_token": "<|endoftext|>"}, ["<|endoftext|>"], None, [], ""),
    "gemma": Family("GemmaConfig", OF_GEMMA, {"eos_token": "<eos>", "bos_token": "<bos>"}, ["<eos>"], None, [], ""),
    "zephyr": Family("GPT2Config", ["<|endoftext|>"], {"eos_token": "<|endoftext|>"}, [], None, [], ""),
}


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Bytes, and the family's tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: place for place, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.text])
    if family.bos:
        bos = family.named["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{bos} $A", f"{bos} $A {bos} $B", [(bos, tokenizer.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **family.named)
    if family.template:
        fast.chat_template = family.template
    return fast


def write_files(family: Family, directory: Path) -> Path:
    """Write a model's files, without weights."""
    tokenizer = tokenizer_of(family)
    eos = tokenizer.convert_tokens_to_ids(family.named["eos_token"])
    config = getattr(transformers, family.config)(**{**SIZES, "eos_token_id": eos, **family.more})
    config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in family.ends]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": ends} if ends else {}))
    return directory


def write_model(family: Family, directory: Path) -> Path:
    """Write a model's files and random weights."""
    import torch

    torch.manual_seed(0)
    write_files(family, directory)
    config = transformers.AutoConfig.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config = transformers.GenerationConfig.from_pretrained(directory)
    model.save_pretrained(directory)
    return directory
