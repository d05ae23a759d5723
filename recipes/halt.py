"""A clean stop: on SIGTERM the update under way is finished, a checkpoint is written, and the training ends."""

import signal
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Halt(TrainerCallback):
    """Stops the training after the update in which any of its processes got a SIGTERM, with a checkpoint."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.asked = False  # this process
        self.halted = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; an update must not be left in its middle."""
        self.asked = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Listen from here on; before the first update there is nothing to keep, and SIGTERM ends the process."""
        signal.signal(signal.SIGTERM, self.ask)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop, unless this was the last update anyway."""
        if self.anybody_asked() and state.global_step < state.max_steps:
            if state.is_world_process_zero:
                print(f"stopping at update {state.global_step}, as SIGTERM asked", flush=True)
            self.halted = control.should_save = control.should_training_stop = True

    def anybody_asked(self) -> bool:
        """Agree with the other processes: signals reach them in different updates, and they save together."""
        if self.trainer.args.world_size == 1:
            return self.asked
        asked: Any = torch.tensor(int(self.asked), device=self.trainer.accelerator.device)
        return bool(self.trainer.accelerator.reduce(asked, reduction="sum"))
