"""Safe checkpoints: check the space before writing one, seal it once it can be read, then delete older ones."""

import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from recipes.config import UserError, read_json
from recipes.system.files import SEAL, flaw, seal

OPTIMISERS = ("optimizer.pt", "optimizer.bin", "optimizer_0", "latest")  # plain, FSDP's two, DeepSpeed's
BYTES = 12  # per trained weight in a checkpoint: the weight and two moments, in float32


def newest_checkpoint(directory: Path) -> str | None:
    """Return the newest undamaged checkpoint, or None to start from the beginning.

    One process searches, and all resume from its result.
    """
    found: list[str | None] = [None]
    if PartialState().is_main_process:
        found = [newest_whole(directory)]
    return broadcast_object_list(found)[0]


def newest_whole(directory: Path) -> str | None:
    """Find it; print which checkpoints are skipped and why."""
    for checkpoint in reversed(checkpoints(directory)):
        wrong = flaw(checkpoint)
        if wrong is None:
            print(f"resuming from {checkpoint.name}", flush=True)
            return str(checkpoint)
        print(f"skipping {checkpoint.name}: {wrong}", flush=True)
    return None


def checkpoints(directory: Path) -> list[Path]:
    """Return a stage's checkpoints, oldest first."""
    return sorted(directory.glob("checkpoint-[0-9]*"), key=step)


def step(checkpoint: Path) -> int:
    """Return a checkpoint's number of optimizer steps."""
    return int(checkpoint.name.split("-")[1])


def missing(checkpoint: Path, processes: int) -> str | None:
    """Return what a checkpoint lacks for resuming, or what cannot be read, in a few words."""
    try:
        read_json(checkpoint / "trainer_state.json")
    except UserError:
        return "trainer_state.json cannot be read"
    if not (checkpoint / "scheduler.pt").exists() or not any((checkpoint / name).exists() for name in OPTIMISERS):
        return "it has no optimizer or no schedule"
    if len(list(checkpoint.glob("rng_state*.pth"))) < processes:
        return "random states are missing"
    files = [file for file in checkpoint.rglob("*") if file.suffix in (".safetensors", ".pt", ".pth")]
    return next((f"{file.name} cannot be read" for file in files if not readable(file)), None)


def readable(file: Path) -> bool:
    """Whether a file of weights or state is as long as its table of contents says; values are not read."""
    if file.suffix != ".safetensors":
        return zipfile.is_zipfile(file)
    try:
        with safe_open(file, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


class Keeper(TrainerCallback):
    """Rotates checkpoints instead of the trainer: an older one is deleted once the new one is sealed."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.directory = Path(str(trainer.args.output_dir))
        self.limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Check the free space before a checkpoint is written.

        Raises:
            UserError: there is less than the last checkpoint took; for the first one, than weights and moments will
            take.
        """
        if not control.should_save or not state.is_world_process_zero:
            return
        needed, free = self.size(), shutil.disk_usage(self.directory).free
        if free < needed:
            raise UserError(
                f"no space left for a checkpoint in {self.directory}: it needs {needed / 1e9:.2f} GB, "
                f"{free / 1e9:.2f} GB are free: free some space and run again; it resumes"
            )

    on_epoch_end = on_step_end

    def size(self) -> int:
        """Return the bytes of the next checkpoint."""
        if last := [path for path in checkpoints(self.directory) if (path / SEAL).exists()]:
            return sum(file.stat().st_size for file in last[-1].rglob("*") if file.is_file())
        assert self.trainer.model is not None
        return BYTES * sum(weight.numel() for weight in self.trainer.model.parameters() if weight.requires_grad)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Seal the new checkpoint, of which every process has written a part; then delete older ones."""
        self.trainer.accelerator.wait_for_everyone()
        if not state.is_world_process_zero:
            return
        newest = self.directory / f"checkpoint-{state.global_step}"
        if wrong := missing(newest, args.world_size):
            print(f"{newest.name} is damaged ({wrong}): older ones are kept", flush=True)
            return
        seal(newest)
        older = [path for path in checkpoints(self.directory) if step(path) <= state.global_step]
        for path in older[: -self.limit] if self.limit else []:
            if str(path) != state.best_model_checkpoint:
                shutil.rmtree(path, ignore_errors=True)


class Ending(TrainerCallback):
    """Trains nothing after the last optimizer step: resumed from its checkpoint, Transformers would add a step.

    It looks for the end after a step only. So it would train on where the last step is not the last of an epoch.
    """

    def __init__(self, trainer: Trainer) -> None:
        read = trainer.get_batch_samples

        def unless_done(*given: Any, **named: Any) -> Any:
            return ([], None) if trainer.control.should_training_stop else read(*given, **named)

        trainer.get_batch_samples = unless_done  # type: ignore[method-assign]

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop where all optimizer steps are done."""
        if state.global_step >= state.max_steps:
            control.should_training_stop = True


class Interruption(TrainerCallback):
    """Lets SIGINT and SIGTERM end the training on all processes after the current optimizer step, with a checkpoint."""

    def __init__(self, trainer: Trainer) -> None:
        self.accelerator = trainer.accelerator
        self.asked, self.came = False, False
        self.before: dict[int, Any] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Install the signal handlers; earlier there is nothing to save."""
        self.before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(self, number: int, frame: Any) -> None:
        """Record a signal; a second one changes nothing, the launcher sends SIGKILL if it takes too long."""
        self.asked = True

    def heard(self) -> bool:
        """Whether any process was asked to stop; a single one need not wait for its GPU to know it."""
        if self.accelerator.num_processes == 1:
            return self.asked
        if self.asked:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop if any process received a signal, unless this was the last optimizer step anyway."""
        if self.heard() and state.global_step < state.max_steps:
            print(f"interrupted: saving a checkpoint of optimizer step {state.global_step}", flush=True)
            self.came = control.should_save = control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Restore the signal handlers."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
