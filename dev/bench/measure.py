"""One measurement in its own process: some optimizer steps of one engine, their seconds, tokens and peak memory."""

import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as Rows
from datasets import disable_progress_bars
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.utils import logging

from dev.bench.workload import adapters, build_model
from recipes.data.columns import IDS
from recipes.engine.packing import Pair, pack
from recipes.engine.trainer import as_inputs
from recipes.methods import METHODS
from recipes.training.cost import count_tokens
from recipes.training.errors import NO_MEMORY


@dataclass(frozen=True)
class Case:
    """The setting of a measurement."""

    model: str  # of dev.bench.workload.SHAPES
    lengths: str
    tuning: str  # full or lora
    batch_size: int
    engine: str  # packed or stock
    updates: int = 1
    warmup: int = 0  # uncounted optimizer steps before these, besides the first
    half: bool = False  # weights in bf16 and autocast
    checkpointing: bool = False
    method: str = "orpo"  # of recipes.methods
    options: tuple[tuple[str, Any], ...] = ()  # of the trainer, in place of those below


class Memory:
    """The peak memory since `idle()`, above that at the time: allocated on a GPU, else resident (Linux's VmHWM)."""

    def __init__(self) -> None:
        self.cuda = torch.cuda.is_available()
        self.before = 0

    def idle(self) -> None:
        """Record the current memory as the idle state."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")
            self.before = status("VmRSS")

    def peak(self) -> int:
        """Return bytes above the idle state."""
        return (torch.cuda.max_memory_allocated() if self.cuda else status("VmHWM")) - self.before


def status(name: str) -> int:
    """Return a size of this process from /proc, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


class Clock(TrainerCallback):
    """Records when each optimizer step ends: the time between two includes fetching, collating and packing a batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def note(self) -> None:
        """Record the time, once the device is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.note()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Record the end of an optimizer step."""
        self.note()

    @property
    def seconds(self) -> list[float]:
        """The seconds of each optimizer step."""
        return [end - start for start, end in zip(self.times, self.times[1:], strict=False)]


SHORTEST = Pair([3], [4], [5])


def rows_of(pairs: list[Pair]) -> Rows:
    """Return pairs as rows of the recipes' data sets."""
    return Rows.from_list([dict(zip(IDS, (pair.prompt, pair.chosen, pair.rejected), strict=True)) for pair in pairs])


def options_of(case: Case, directory: str) -> dict[str, Any]:
    """Return a trainer's options: those of the recipes, and nothing saved or logged."""
    return {
        "output_dir": directory,
        "engine": case.engine,
        "per_device_train_batch_size": case.batch_size,
        "max_length": 4096,
        "learning_rate": 1e-5,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": case.half,
        "activation_checkpointing": case.checkpointing,
        "gradient_checkpointing": case.checkpointing,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "logging_strategy": "no",
        "save_strategy": "no",
    }


def build_trainer(case: Case, model: Any, pairs: list[Pair], peft: Any, directory: str) -> Any:
    """Return the method's trainer on the engine for one pass over the pairs, with the options of the recipes."""
    disable_progress_bars()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)  # TRL's own, about a name that Transformers changed
    pad: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<pad>": 0}, "<pad>")), pad_token="<pad>")
    method = METHODS[case.method]
    reads = {"precompute_ref_log_probs": False} if method.reference_passes else {}  # in the steps, which are timed
    if method.reference_passes and peft is None:  # TRL loads the reference model from where the policy came from
        model.save_pretrained(f"{directory}/start")
        model.config._name_or_path = f"{directory}/start"
    args = method.config_class()(**{**options_of(case, directory), **reads, **dict(case.options)})
    trainer = import_module(method.module).TRAINERS[args.engine](
        model, args=args, train_dataset=rows_of(pairs), processing_class=pad, peft_config=peft
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measure(case: Case, pairs: list[Pair]) -> dict[str, Any]:
    """Train on `pairs`, batch after batch, and return the costs; `{}` if memory ran out.

    One optimizer step on the shortest pairs runs first, uncounted: so the peak includes the optimizer's state, and the
    time excludes one-time costs.
    """
    memory, clock = Memory(), Clock()
    dtype, answers = torch.bfloat16 if case.half else torch.float32, METHODS[case.method].answers
    model: Any = build_model(case.model, dtype, answers=answers)
    with tempfile.TemporaryDirectory() as directory:
        memory.idle()
        try:
            first = [SHORTEST] * case.batch_size
            trainer = build_trainer(case, model, first + pairs, adapters(case.tuning), directory)
            computed: list[int] = []
            collate = trainer.data_collator
            trainer.data_collator = lambda rows: count(collate(rows), computed)
            trainer.add_callback(clock)
            trainer.train()
        except RuntimeError as error:
            if not any(said in str(error).lower() for said in NO_MEMORY):
                raise
            return {}
    counted = pairs[case.warmup * case.batch_size :]
    seconds = clock.seconds[-case.updates :]
    return {
        "pairs_per_second": len(counted) / sum(seconds),
        "useful_tokens_per_second": sum(pair.tokens for pair in counted) / sum(seconds),
        "computed_tokens_per_second": sum(computed[-case.updates :]) / sum(seconds),
        "peak_bytes": memory.peak(),
        "seconds": seconds,
    }


def count(batch: dict[str, Any], computed: list[int]) -> dict[str, Any]:
    """Record the tokens that a batch's forward pass computes."""
    computed.append(count_tokens(batch)[1])
    return batch


def agreement(model: str, tuning: str, pairs: list[Pair]) -> dict[str, float]:
    """Return the difference between the engines on one batch in float32.

    Returns:
        `loss`: the relative difference of the losses; `gradient`: over all weights, the largest difference of a
        gradient's entry, relative to the largest entry of stock's gradient of that weight.
    """
    losses: dict[str, float] = {}
    gradients: dict[str, dict[str, Tensor]] = {}
    for engine in ("stock", "packed"):
        case = Case(model, "", tuning, len(pairs), engine)
        with tempfile.TemporaryDirectory() as directory:
            torch.manual_seed(1)  # of the adapters
            peft = adapters(tuning, random_start=True)
            trainer = build_trainer(case, build_model(model, torch.float32), pairs, peft, directory)
            loss = loss_of(trainer)
            loss.backward()
            losses[engine] = loss.item()
            named = trainer.model.named_parameters()
            gradients[engine] = {name: weight.grad for name, weight in named if weight.grad is not None}
    differences = [
        ((gradients["packed"][name] - gradient).abs().max() / gradient.abs().max()).item()
        for name, gradient in gradients["stock"].items()
        if gradient.abs().max() > 0
    ]
    return {"loss": abs(losses["packed"] - losses["stock"]) / losses["stock"], "gradient": max(differences)}


def loss_of(trainer: Any) -> Tensor:
    """Return the loss of all the trainer's pairs as one batch."""
    batch = trainer.data_collator(list(trainer.train_dataset))
    if trainer.args.engine == "packed":
        return trainer.compute_loss(trainer.model, as_inputs(pack(batch["pairs"], trainer.args.nll_span)))
    return trainer.get_batch_loss_metrics(trainer.model, trainer._prepare_inputs(batch))[0]


def matmul_rate(size: int = 8192, seconds: float = 1.0) -> float:
    """Return the device's measured FLOPs per second in one large product: bf16 on a GPU, float32 on the CPU."""
    cuda = torch.cuda.is_available()
    size = size if cuda else size // 8
    one = torch.randn(size, size, device="cuda" if cuda else "cpu", dtype=torch.bfloat16 if cuda else torch.float32)
    rounds, clock = 0, Clock()
    product = one @ one
    clock.note()
    while clock.times[-1] - clock.times[0] < seconds:
        for _ in range(10):
            torch.matmul(one, one, out=product)
        rounds += 10
        clock.note()
    return 2 * size**3 * rounds / (clock.times[-1] - clock.times[0])
