"""A training's cost, counted batch by batch; and a guard that stops it on a non-finite gradient."""

import json
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from recipes.config import UserError, write_text
from recipes.training.reading import reading

Rows = list[dict[str, Any]]


@dataclass
class Cost:
    """Totals of one stage, over all its epochs and across interruptions."""

    pairs: int = 0
    tokens: int = 0  # content tokens: of whole dialogues, whether prompts are shared or not
    computed_tokens: int = 0  # tokens through the model: with padding, a shared prompt once
    seconds: float = 0.0
    generated_tokens: int = 0  # sampled by RLOO from the policy
    inference_tokens: int = 0  # of `computed_tokens`, without a backward pass: RLOO's sampling, KTO's reference point
    frozen_flops: int = 0  # by RLOO's reference and reward model
    inference_flops: int = 0  # by RLOO's policy without a backward pass
    scored_tokens: int = 0  # positions of the passes that train whose logits are computed
    attended: int = 0  # pairs of a query and a key that it sees, in those passes

    def add(self, other: "Cost") -> None:
        """Add another batch, or an earlier part of the same training."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Meter:
    """A data collator that wraps the trainer's own and remembers each training batch until it was trained on.

    Batches are collated ahead of their use, so they are counted when the trainer reports the end of a micro-batch. Only
    training rows have a `row` number; evaluation batches are not counted.
    """

    def __init__(
        self,
        directory: Path,
        collate: Callable[[Rows], dict[str, Any]],
        seconds_before: float = 0.0,
        nll_span: str = "full",
    ) -> None:
        self.directory = directory
        self.nll_span = nll_span  # which tokens a packed row scores
        self.seconds_before = seconds_before  # of the reference model's pass, in this process or an earlier one
        self.collate = collate
        self.cost = Cost()
        self.waiting: deque[tuple[Cost, list[int]]] = deque()
        self.update: list[int] = []  # row numbers (from 1) of the current optimizer step
        self.callback = Count(self)

    def __call__(self, rows: Rows) -> dict[str, Any]:
        """Collate `rows`."""
        batch = self.collate([{key: value for key, value in row.items() if key != "row"} for row in rows])
        if "row" in rows[0]:
            # RLOO's prompts: its trainer counts what it samples and trains on
            cost = Cost() if isinstance(batch, list) else self.cost_of(len(rows), batch)
            self.waiting.append((cost, [row["row"] + 1 for row in rows]))
        return batch

    def cost_of(self, rows: int, batch: dict[str, Any]) -> Cost:
        """Return the cost of training on a batch."""
        read, probes = reading(batch, self.nll_span), 0
        if "KL_input_ids" in batch:  # stock KTO's mismatched responses, which the policy reads too
            probes = batch["KL_input_ids"].numel()
        tokens, computed = count_tokens(batch)
        seen = {"scored_tokens": int(read.scored), "attended": int(read.attended)}
        return Cost(rows, tokens, computed + probes, inference_tokens=probes, **seen)

    def trained(self) -> None:
        """Count the oldest waiting batch."""
        cost, rows = self.waiting.popleft()
        self.cost.add(cost)
        self.update.extend(rows)

    def forget(self, pairs: list[Any]) -> None:
        """Remove pairs of zero weight from the newest batch's counts, except from computed tokens."""
        if pairs:
            newest, _ = self.waiting[-1]
            newest.pairs -= len(pairs)
            newest.tokens -= sum(pair.dialogue_tokens for pair in pairs)

    def rows_of_update(self) -> list[int]:
        """Return the row numbers of the micro-batches since the last optimizer step, including the current one."""
        present = self.waiting[0][1] if self.waiting else []
        return sorted({*self.update, *present})

    def total(self) -> Cost:
        """Return the cost summed over all processes; every process must call it."""
        own = asdict(self.cost)
        every: Any = gather_object([own])  # Python's integers: FLOPs of long trainings have more than 64 bits
        summed = {name: sum(cost[name] for cost in every) for name in own}
        return Cost(**summed | {"seconds": own["seconds"]})


def count_tokens(batch: dict[str, Any]) -> tuple[int, int]:
    """Return the tokens of one batch's dialogues, and the tokens that the policy's forward pass computes."""
    if "pairs" in batch:  # packed: no padding, and each prompt once
        return sum(pair.dialogue_tokens for pair in batch["pairs"]), sum(pair.tokens for pair in batch["pairs"])
    if "chosen_input_ids" in batch:  # TRL's ORPO and CPO pad both responses to the longer of the two
        masks = [batch["chosen_attention_mask"], batch["rejected_attention_mask"]]
        width = max(mask.shape[1] for mask in masks)
        return sum(int(mask.sum()) for mask in masks), sum(mask.shape[0] for mask in masks) * width
    if "attention_mask" in batch:
        return int(batch["attention_mask"].sum()), batch["attention_mask"].numel()
    return batch["input_ids"].numel(), batch["input_ids"].numel()  # packed: no padding


class Count(TrainerCallback, ExportableState):
    """Advances the meter with the trainer, saves it in checkpoints, and writes progress to files."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.whole: Cost | None = None  # over all processes, when a checkpoint was last due
        self.started: float | None = None
        self.reported = 0.0

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; only called in the first process."""
        self.stop_clock()
        cost = asdict(self.whole or self.meter.cost) | {"seconds": self.meter.cost.seconds}
        return {"args": {}, "attributes": {"cost": cost}}

    def stop_clock(self) -> None:
        """Add the time since the training began, or since the last call; nothing before the training begins."""
        if self.started is not None:
            now = time.monotonic()
            self.meter.cost.seconds += now - self.started
            self.started = now

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Continue from the checkpoint's totals."""
        stateful: Any = state.stateful_callbacks or {}
        saved = stateful.get("Count", {})
        self.started = time.monotonic()
        if isinstance(saved, dict) and "attributes" in saved:
            cost = Cost(**saved["attributes"]["cost"])  # the sum over all processes, so only one continues from it
            self.meter.cost = cost if PartialState().is_main_process else Cost(seconds=cost.seconds)
        else:
            self.meter.cost.seconds += self.meter.seconds_before

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count a micro-batch."""
        self.meter.trained()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the last micro-batch of an optimizer step, and write the progress."""
        self.meter.trained()
        self.meter.update.clear()
        self.on_epoch_end(args, state, control)
        if state.is_world_process_zero and time.monotonic() - self.reported > 0.2:
            self.reported = time.monotonic()
            write_text(self.meter.directory / "progress", f"{state.global_step} {state.max_steps}")

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Sum over all processes if a checkpoint is due."""
        if control.should_save:
            self.whole = self.meter.total()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the whole log history each time, so that a resumed stage repeats no step."""
        if state.is_world_process_zero:
            lines = [json.dumps(finite_or_text(entry)) + "\n" for entry in state.log_history]
            write_text(self.meter.directory / "log_history.jsonl", "".join(lines))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock."""
        self.stop_clock()


class Guard(TrainerCallback):
    """Stops the training before an optimizer step with a non-finite gradient, so that no weight changes."""

    def __init__(self, trainer: Trainer, meter: Meter) -> None:
        self.trainer = trainer
        self.meter = meter

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Check every gradient.

        Raises:
            UserError: one is not finite; the message names the step's rows.
        """
        assert self.trainer.model is not None
        gradients = [weight.grad for weight in self.trainer.model.parameters() if weight.grad is not None]
        # DeepSpeed hides its gradients and has already stepped: recipes.training.checks checks their norm
        if gradients and not all_finite(gradients):
            rows = ", ".join(map(str, self.meter.rows_of_update()))
            raise UserError(
                f"the loss or its gradient is not finite at optimizer step {state.global_step + 1}, train rows {rows}; "
                "no weight was updated: lower the learning rate, or check these rows and remove them"
            )


def all_finite(gradients: list[Tensor]) -> bool:
    """Whether every number is finite: by their norm, one pass on a GPU; only if that is not, one by one.

    A norm may overflow where no number does.
    """
    norm = get_total_norm(gradients)
    if bool(torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm)):
        return True
    return bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all())


def finite_or_text(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a log entry for JSON: values that are not finite become text."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entry.items()
    }
