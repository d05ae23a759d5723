"""The steps of every recipe: check the machine, resume, train, save, record."""

import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import Trainer

from recipes.config import UNMERGED, Stage, write_json
from recipes.engine.trl import count_batches, forgive_trackers, train_adapters_in_float32, write_no_card
from recipes.system.processes import die_with_parent
from recipes.training.checkpoints import Ending, Interruption, Keeper, newest_checkpoint
from recipes.training.checks import Alarms, check_machine, check_saved
from recipes.training.code import keep_code
from recipes.training.cost import Guard, Meter
from recipes.training.errors import report, write_error
from recipes.training.memory import begin, peaks
from recipes.training.merge import keep_base
from recipes.training.model import name_no_code, save_model
from recipes.training.record import record

INTERRUPTED = 130


def main(recipe: str) -> None:
    """Run a recipe on the stage directory named on the command line.

    The recipe is imported by name: Transformers pickles options into checkpoints, and other processes could not load a
    class of `__main__`.

    Exit status: 0 done, 2 an error that the user can fix (its line is in `error.txt`), 1 a crash, 130 interrupted. A
    W&B run is closed in every case.
    """
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's `&` ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    directory = Path(sys.argv[1])
    status = 0
    try:
        module = import_module(recipe)
        begin()
        module.train(Stage.load(directory))
    except KeyboardInterrupt as interruption:
        status = INTERRUPTED
        if interruption.args:  # all processes stop; one that torchrun ends must not hide why another failed
            write_error(directory, str(interruption))
    except Exception as error:
        status = report(error, directory)
    close_tracker(status)
    sys.exit(status)


def fit(trainer: Trainer, stage: Stage) -> None:
    """Train to the end, from the newest undamaged checkpoint if there is one, and write model and record."""
    check_machine(trainer, stage)
    train_adapters_in_float32(trainer)
    if trainer.is_world_process_zero():
        keep_base(trainer.model, stage)
    seconds_before, nll_span = getattr(trainer, "reference_seconds", 0.0), getattr(trainer, "nll_span", "full")
    meter = Meter(stage.directory, trainer.data_collator, seconds_before, nll_span)
    count_batches(trainer, meter)
    forgive_trackers(trainer)
    write_no_card(trainer)
    interruption = Interruption(trainer)
    watching = (meter.callback, Guard(trainer, meter), Alarms(trainer, stage), Keeper(trainer), Ending(trainer))
    for callback in (interruption, *watching):
        trainer.add_callback(callback)
    checkpoint = newest_checkpoint(stage.directory)
    if checkpoint is None and trainer.is_world_process_zero():
        keep_code(stage.directory, stage.stage, stage.start, stage.reward_model)
    trainer.train(resume_from_checkpoint=checkpoint)
    if interruption.came:
        trainer.accelerator.wait_for_everyone()  # the first process to end would terminate those that still write
        raise KeyboardInterrupt("interrupted by a signal: run the same command to resume from the last checkpoint")
    save(trainer, stage)
    cost, memory = meter.total(), peaks(trainer)
    if trainer.is_world_process_zero():
        check_saved(trainer, stage)
        write_json(stage.directory / UNMERGED, record(trainer, stage, cost, memory))


def save(trainer: Trainer, stage: Stage) -> None:
    """Save the trained weights: `model/`, or `adapter/` for the merge that follows."""
    if hasattr(trainer.model, "peft_config"):
        if trainer.is_world_process_zero():
            shutil.rmtree(stage.output, ignore_errors=True)  # of an earlier training, whose record was damaged
        trainer.save_model(str(stage.directory / "adapter"))
    elif stage.strategy in ("fsdp2", "zero3"):
        name_no_code(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class)
        trainer.save_model(str(stage.output))
    elif trainer.is_world_process_zero():
        shutil.rmtree(stage.output, ignore_errors=True)
        save_model(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, stage.output)  # type: ignore[arg-type]


def close_tracker(status: int) -> None:
    """Close the W&B run with the exit status, if this process opened one."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish(exit_code=status)
        wandb.teardown()
