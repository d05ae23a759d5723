"""`--help`: the options that people change, in groups, with examples; `--help=all`: all of them."""

from recipes.system.commands import output
from recipes.system.paths import ROOT

ALL = "--help=all"
ASKED = {"-h", "--help", ALL}
FLAGS = f"""
{"--check":34}check everything that a launch checks, and end: also `make check-run`
{"--cfg job":34}print every option with its value
{"--help=all":34}all options; they are those of docs/options.md"""
GROUPS = {
    "What is compared": {
        "pipeline=compare": "sft, dpo (SFT, then DPO), orpo, rlhf; compare (the first three), all",
        "pipeline=methods": "simpo, cpo, kto (SFT first); methods (all on pairs), design; any: sft+simpo,simpo",
        "seed=0,1,2": "several seeds: a verdict about the methods, not about one model of each",
        "tune=8": "trials of each pipeline on a validation split; the winners are compared",
        "budget=flops": "what is held equal across pipelines: pairs, tokens or flops; null: nothing",
        "batch_size=32": "pairs per optimizer step, whatever the machine",
    },
    "Model": {
        "model=qwen2.5-0.5b": "a Hub id, directory, GGUF file, or profile (MODEL=); a,b: does the verdict hold?",
        "tuning=full": "or lora, qlora",
        "model.lora_r=16": "the rank of LoRA's adapters",
        "model.dtype=bfloat16": "of the loaded weights",
    },
    "Data": {
        "dataset=pairs.jsonl": "a file, folder, pattern, Hub id, [a,b], or a profile of conf/dataset (DATASET=)",
        "dataset.test_path=held-out.jsonl": "held-out pairs; else dataset.test_fraction of the prompts",
        "dataset.max_length=1024": "tokens of prompt and response together",
        "dataset.train_rows=2000": "the first rows only",
        "dataset.policies.malformed=drop": "keep, drop or refuse rows with a finding",
    },
    "Training, for each method: sft, dpo, orpo, cpo, simpo, kto, reward, rloo": {
        "orpo.beta=0.1": "the weight of ORPO's odds-ratio term (the paper's lambda), DPO's beta",
        "dpo.learning_rate=5e-7": "the peak of the schedule",
        "sft.num_train_epochs=1": "or sft.max_steps=100",
        "orpo.lr_scheduler_type=cosine": "linear, constant, …",
        "tracker=wandb": "where to log training: also tensorboard, mlflow, trackio",
        "orpo.engine=packed": "or stock: TRL's own forward pass",
    },
    "Evaluation": {
        "eval_prompts=400": "held-out prompts that every model responds to",
        "eval_samples=1": "responses to each",
        "judge=auto": "who decides a comparison: gold, trained, reward:<model>, llm, people, none",
        "dataset.max_new_tokens=512": "of a response",
    },
    "Machine": {
        "hardware=1x24gb": "a profile of conf/hardware (HARDWARE=); by default the one that fits",
        "hardware.per_device_batch=4": "micro-batch, by default what fits; no result of a packed engine depends on it",
        "launcher=local": "jobs on all GPUs of this machine, or slurm (LAUNCHER=)",
        "runs=runs": "where everything is written",
    },
}
EXAMPLES = """
make compare MODEL=Qwen/Qwen3-0.6B DATASET=pairs.jsonl ARGS="seed=0,1,2"
make compare MODEL=smollm2-135m,smollm2-360m DATASET=pairs.jsonl     does the verdict hold at another size?
make orpo MODEL=phi-3-mini DATASET=ultrafeedback ARGS="tuning=lora orpo.beta=0.25"
make sweep ARGS="pipeline=orpo orpo.beta=0.05,0.1,0.25"     a comma: one job for each value
make plan MODEL=phi-3-mini DATASET=ultrafeedback HARDWARE=1x24gb     memory and time, trains nothing
make plan MODEL=phi-3-mini HARDWARE=all     on which machine it fits: in full, with LoRA, with QLoRA"""


def helped(words: list[str], about: str | None) -> bool:
    """Print the help if the words of a command ask for it; `about` says what the command does."""
    if not ASKED & {*words}:
        return False
    if ALL in words:
        output.print((ROOT / "docs" / "options.md").read_text(), soft_wrap=True)
        return True
    output.print(f'{about}\nOptions, in ARGS="…" or after the command:{FLAGS}', soft_wrap=True)
    for title, options in GROUPS.items():
        output.print(f"\n{title}")
        for option, meaning in options.items():
            output.print(f"  {option:33} {meaning}", soft_wrap=True)
    output.print(f"\nExamples{EXAMPLES}", soft_wrap=True)
    return True
