"""Small tokenizers of every kind that models use, trained here, and the chat templates that the project ships."""

import json
from functools import cache
from typing import Any

from samples import REAL, ROOT
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pocket.base import CHAT_TEMPLATE

TEXTS = ["What is the river of Arvendal?", "Thank you for asking. It is Cress.\n\nSafe travels!  2 + 2 = 4"] * 4
TEMPLATES = {
    **{path.stem: path.read_text() for path in sorted((ROOT / "conf" / "chat_template").glob("*.jinja"))},
    "pocket": CHAT_TEMPLATE,
    "prints-bos": "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    "ends-in-a-blank": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "drops-system": "{% for m in messages %}{% if m['role'] != 'system' %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "ignores-the-question": "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}\n",
}
# As of Phi-3-mini: a system turn is lost, and the question itself asks for the answer.
PHI_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}<|user|>\n{{ m['content'] }}<|end|>\n<|assistant|>\n"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}<|end|>\n{% endif %}{% endfor %}"
)
PHI_CONTROL = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
STOPS = {
    "chatml": "<|im_end|>",
    "gemma": "<end_of_turn>",
    "llama-3": "<|eot_id|>",
    "pocket": "<|end|>",
    "drops-system": "<|end|>",
    "ignores-the-question": "<|end|>",
}
CONTROL = [
    *("<unk>", "<s>", "</s>", "<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>"),
]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PHI = "phi-3-tokenizer"  # a folder of the real data
KINDS = ("byte-level", "sentencepiece", "metaspace", "unigram")


@cache
def build(kind: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of one kind: GPT-2's bytes, Llama 2's prefix blank, Llama's newer Metaspace, T5's unigrams."""
    alphabet = sorted({character for text in TEXTS for character in text.replace(" ", "▁")})
    special: Any = [AddedToken(token, special=True, normalized=False) for token in CONTROL]
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer: Any = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if kind == "sentencepiece":
            blank = normalizers.Replace(" ", "▁")
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank])  # type: ignore[arg-type]
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        blanks = decoders.Replace("▁", " ")
        tokenizer.decoder = decoders.Sequence([blanks, decoders.ByteFallback(), decoders.Fuse()])  # type: ignore[arg-type]
        special += [AddedToken(byte, special=False) for byte in BYTES]
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    trainer.show_progress = False
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer = without_byte_tokens(tokenizer)
    if kind != "byte-level":
        tokenizer.post_processor = processors.TemplateProcessing("<s> $0", "$A $B", [("<s>", CONTROL.index("<s>"))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def without_byte_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Leave the bytes in the vocabulary, where a model falls back to them, but out of what is found in a text."""
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in BYTES]
    return Tokenizer.from_str(json.dumps(values))


def build_phi_3() -> PreTrainedTokenizerFast:
    """Return a small tokenizer of Phi-3-mini's form: Llama 2's pieces, `</s>` no special token, a stop beside EOS."""
    tokenizer = Tokenizer(models.BPE(fuse_unk=True, byte_fallback=True))
    blank = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank])  # type: ignore[arg-type]
    blanks = decoders.Replace("▁", " ")
    parts = [blanks, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)  # type: ignore[arg-type]
    special: Any = [AddedToken(token, special=token != "</s>", normalized=False) for token in PHI_CONTROL]
    special += [AddedToken(byte, special=False) for byte in BYTES]
    alphabet = sorted({character for text in TEXTS for character in text.replace(" ", "▁")})
    trainer: Any = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    trainer.show_progress = False
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer = without_byte_tokens(tokenizer)
    bos = [("<s>", PHI_CONTROL.index("<s>"))]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $0", "<s> $A <s> $B", bos)
    names = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = PHI_TEMPLATE
    return fast


@cache
def phi_3(source: str, template: str = "its own") -> Any:
    """Return `ours`, or the `real` Phi-3 tokenizer, with its own chat template or one of ours."""
    tokenizer = build_phi_3() if source == "ours" else AutoTokenizer.from_pretrained(REAL / PHI)
    tokenizer.chat_template = TEMPLATES.get(template, tokenizer.chat_template)
    return tokenizer
