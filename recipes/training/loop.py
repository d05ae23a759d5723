"""What every recipe does with its trainer: check the machine, resume, train, save, record."""

import errno
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer, set_seed

from recipes.config import OUT_OF_MEMORY, UNMERGED, Stage, UserError, write_json, write_text
from recipes.system.processes import die_with_parent
from recipes.training.checkpoints import Interruption, Keeper, newest_checkpoint
from recipes.training.checks import Alarms, check_machine, check_saved
from recipes.training.code import keep_code
from recipes.training.cost import Guard, Meter
from recipes.training.merge import keep_base
from recipes.training.model import save_model
from recipes.training.record import record

Options = TypeVar("Options")

INTERRUPTED = 130
# CUDA's allocator, PyTorch's on a CPU, cuBLAS
NO_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def main(train: Callable[[Stage], None]) -> None:
    """Run a recipe on the stage directory named on the command line.

    Exit status: 0 done, 2 what the user can mend (its line is left in `error.txt`), 1 a crash,
    130 interrupted. A W&B run is closed in every case.
    """
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's `&` ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    directory = Path(sys.argv[1])
    status = 0
    try:
        train(Stage.load(directory))
    except KeyboardInterrupt as interruption:
        status = INTERRUPTED
        if interruption.args:  # all processes agreed; one that torchrun ends must not hide why another failed
            write_error(directory, str(interruption))
    except Exception as error:
        traceback.print_exc()
        message = in_words(error, directory)
        status = 2 if message else 1
        if message:
            write_error(directory, message)
    close_tracker(status)
    sys.exit(status)


def arguments(config: Callable[..., Options], stage: Stage) -> Options:
    """Build a trainer's arguments; before the model, since they arm ZeRO-3 and FSDP for sharded loading.

    Raises:
        UserError: TRL or Transformers refuses the value of an option.
    """
    for option in ("auto_find_batch_size", "resume_from_checkpoint", "neftune_noise_alpha", "label_smoothing_factor"):
        if stage.options.get(option):
            raise UserError(
                f"{stage.stage}.{option} is not supported: it would change the experiment behind the record's back; "
                "leave it out"
            )
    if stage.options.get("packing") or stage.options.get("dataloader_num_workers"):
        raise UserError(
            f"{stage.stage}.packing and dataloader_num_workers hide rows from the meter of costs: leave them off; "
            f"{stage.stage}.engine=packed packs all methods alike"
        )
    try:
        args = config(**stage.options | {"output_dir": str(stage.directory)})  # wherever runs/ has been moved to
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"an option under `{stage.stage}.` is refused: {' '.join(str(error).split())}") from None
    keep_outputs_in_float32(args)
    set_seed(stage.seed)  # adapters are made before the trainer would do so
    return args


def keep_outputs_in_float32(args: Any) -> None:
    """Undo Accelerate's cast of all outputs to bf16 under FSDP2, before any model is sharded.

    A loss of bf16 logits or log-probs keeps three digits: DPO's first was 0.6914 instead of ln 2.
    """
    if args.fsdp_plugin_args and args.bf16:
        half = torch.bfloat16
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=half, output_dtype=torch.float32)
        args.fsdp_plugin_args["mixed_precision_policy"] = policy


def fit(trainer: Trainer, stage: Stage) -> None:
    """Train to the end, from the newest whole checkpoint if there is one, and leave model and record."""
    check_machine(trainer, stage)
    train_adapters_in_float32(trainer)
    if trainer.is_world_process_zero():
        keep_base(trainer.model, stage)
    meter = Meter(stage.directory, trainer.data_collator, getattr(trainer, "reference_seconds", 0.0))
    trainer.data_collator = meter
    trainer.meter = meter  # type: ignore[attr-defined]  # RLOO counts what it samples
    forgive_trackers(trainer)
    interruption = Interruption(trainer)
    for callback in (interruption, meter.callback, Guard(trainer, meter), Alarms(trainer, stage), Keeper(trainer)):
        trainer.add_callback(callback)
    checkpoint = newest_checkpoint(stage.directory)
    if checkpoint is None and trainer.is_world_process_zero():
        keep_code(stage.directory, stage.stage, stage.start, stage.reward_model)
    trainer.train(resume_from_checkpoint=checkpoint)
    if interruption.came:
        trainer.accelerator.wait_for_everyone()  # the first to end would take along whoever still writes
        raise KeyboardInterrupt("interrupted by a signal: the same command goes on from the last checkpoint")
    save(trainer, stage)
    cost = meter.total()
    if trainer.is_world_process_zero():
        check_saved(trainer, stage)
        write_json(stage.directory / UNMERGED, record(trainer, stage, cost))


def forgive_trackers(trainer: Trainer) -> None:
    """Let a tracker that fails fall silent: the training goes on, and so do its own files."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith("transformers.integrations"):
            for name in (name for name in dir(callback) if name.startswith("on_")):
                setattr(callback, name, forgiving(getattr(callback, name)))


def forgiving(report: Callable[..., None]) -> Callable[..., None]:
    """Return a tracker's method that prints what it would raise."""

    def attempt(*arguments: Any, **options: Any) -> None:
        try:
            report(*arguments, **options)
        except Exception as error:
            print(f"{report.__qualname__} failed, the training goes on: {error}", flush=True)

    return attempt


def train_adapters_in_float32(trainer: Trainer) -> None:
    """Undo TRL's cast of QLoRA adapters to bf16, in which an update of 1e-6 rounds to nothing."""
    assert trainer.model is not None
    if hasattr(trainer.model, "peft_config"):
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()


def save(trainer: Trainer, stage: Stage) -> None:
    """Save the trained weights: `model/`, or `adapter/` for the merge that follows."""
    if hasattr(trainer.model, "peft_config"):
        trainer.save_model(str(stage.directory / "adapter"))
    elif stage.strategy in ("fsdp2", "zero3"):
        trainer.save_model(str(stage.output))
    elif trainer.is_world_process_zero():
        shutil.rmtree(stage.output, ignore_errors=True)
        save_model(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, stage.output)  # type: ignore[arg-type]


def in_words(error: Exception, directory: Path) -> str | None:
    """Return the line a user is told, if the error is one that a user can mend."""
    if isinstance(error, UserError):
        return str(error)
    no_space = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    # torch.save reports a full disk as a failed write of its archive, without saying why
    if no_space or ("PytorchStreamWriter" in str(error) and shutil.disk_usage(directory).free < 2**26):
        return f"no space left where {directory} lies: make room and run again, it resumes"
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY):
        return (
            f"{OUT_OF_MEMORY}: halve hardware.per_device_batch (batch_size stays), or use tuning=lora or tuning=qlora"
        )
    return None


def write_error(directory: Path, message: str) -> None:
    """Leave the one line for the launcher; on a full disk there may be no room even for that."""
    try:
        write_text(directory / "error.txt", message)
    except OSError:
        print(message, file=sys.stderr)


def close_tracker(status: int) -> None:
    """Close the W&B run with the exit status, if this process opened one."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=status)
        wandb.teardown()
