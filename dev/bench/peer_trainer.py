"""LLaMA-Factory's ORPO on given pairs; runs in the Python of its own environment, which has none of our packages.

    .cache/peer/bin/python dev/bench/peer_trainer.py MODEL PAIRS.json BATCH_SIZE

PAIRS.json: [[prompt ids, chosen ids, rejected ids], …]. Prints one line of JSON: seconds and peak_bytes.
"""

import importlib.machinery
import json
import sys
import tempfile
import time
import types
from pathlib import Path

torchaudio = types.ModuleType("torchaudio")  # imported for speech, not needed for text; its wheels need CUDA
torchaudio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = torchaudio

from datasets import Dataset  # noqa: E402
from llamafactory.data import PairwiseDataCollatorWithPadding, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import DataArguments, FinetuningArguments  # noqa: E402
from llamafactory.train.dpo.trainer import CustomDPOTrainer  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoTokenizer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)


class Clock(TrainerCallback):
    """Records when each optimizer step ends."""

    def __init__(self):
        self.times = []

    def on_step_end(self, *_, **__):
        """Record the time."""
        self.times.append(time.perf_counter())


def status(name):
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def row(prompt, chosen, rejected):
    """Return a pair as LLaMA-Factory's own tokenization would."""
    columns = {"images": None, "videos": None, "audios": None}
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        columns[f"{name}_input_ids"] = prompt + answer
        columns[f"{name}_attention_mask"] = [1] * len(prompt + answer)
        columns[f"{name}_labels"] = [-100] * len(prompt) + answer
    return columns


def main(path, pairs, batch_size):
    """Train one optimizer step on the shortest pairs, then on all pairs; time the latter."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    template = get_template_and_fix_tokenizer(tokenizer, DataArguments(template="phi"))
    model = AutoModelForCausalLM.from_pretrained(path)
    rows = [row([3], [4], [5])] * batch_size + [row(*pair) for pair in pairs]
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        args = Seq2SeqTrainingArguments(
            output_dir=directory,
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            learning_rate=1e-5,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            logging_strategy="no",
            save_strategy="no",
        )
        Path("/proc/self/clear_refs").write_text("5")
        idle = status("VmRSS")
        trainer = CustomDPOTrainer(
            model=model,
            ref_model=None,
            args=args,
            finetuning_args=FinetuningArguments(
                stage="dpo", pref_loss="orpo", pref_beta=0.1, finetuning_type="full", disable_shuffling=True
            ),
            data_collator=PairwiseDataCollatorWithPadding(
                template=template, model=model, tokenizer=tokenizer, pad_to_multiple_of=8, label_pad_token_id=-100
            ),
            callbacks=[clock],
            train_dataset=Dataset.from_list(rows),
            tokenizer=tokenizer,
            processor=None,
        )
        trainer.train()
    print(json.dumps({"seconds": clock.times[-1] - clock.times[0], "peak_bytes": status("VmHWM") - idle}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3]))
