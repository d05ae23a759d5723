"""KTO's reference point in checkpoints: a resumed training continues from the one of its last optimizer step."""

from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState


class KeptPoint(TrainerCallback, ExportableState):
    """Writes a trainer's `point`, a tensor of shape (), into `trainer_state.json`, and reads it when resuming.

    An evaluation before the next optimizer step reads it (`eval_on_start`), and so does an optimizer step of a single
    pair, which has no other's responses to estimate it from.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer: Any = trainer

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; a float64 survives JSON exactly."""
        return {"args": {}, "attributes": {"point": self.trainer.point.item()}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Continue from the checkpoint's point; an older checkpoint has none."""
        stateful: Any = state.stateful_callbacks or {}
        if saved := stateful.get(type(self).__name__):
            point = saved["attributes"]["point"]
            self.trainer.point = torch.tensor(point, dtype=torch.float64, device=self.trainer.args.device)
