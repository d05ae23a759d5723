"""What ORPO, CPO and SimPO share around their losses: TRL's experimental trainers, on our token ids."""

import warnings
from typing import Any

from datasets import Dataset

with warnings.catch_warnings():
    # TRL keeps these in `experimental` and warns on every import; we pin TRL in requirements.txt.
    warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")
    from trl.experimental import cpo as trl_cpo
    from trl.experimental import orpo as trl_orpo

from recipes.data.pairs import dialogues
from recipes.engine.packing import collate
from recipes.engine.trainer import PackedTrainer
from recipes.engine.trl import rename_metrics
from recipes.methods import Method

__all__ = ["OnOurIds", "PackedReferenceFree", "check_label_smoothing", "trl_cpo", "trl_orpo"]


def check_label_smoothing(label_smoothing: float) -> None:
    """Reject a probability of a wrong label from which nothing, or the reverse, would be learnt; TRL takes any.

    Raises:
        ValueError: it is below 0, or 0.5 or more.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing={label_smoothing}: use 0 or more, and less than 0.5")


class OnOurIds:
    """Mixed into a trainer of TRL: its forward pass and loss, on our token ids."""

    method: Method

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Return the columns that TRL's own tokenization would create."""
        return dialogues(feature)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under names that say what is logged."""
        rename_metrics(logs, self, self.method)
        super().log(logs, start_time)  # type: ignore[misc]


class PackedReferenceFree(PackedTrainer):
    """Mixed into such a trainer, before it: packed rows instead of TRL's padded ones."""

    def __init__(
        self, model: Any, args: Any, train_dataset: Dataset, eval_dataset: Dataset | None = None, **options: Any
    ) -> None:
        # TRL maps three functions over all rows, and none would change a row: it gets a single row of each split.
        first = {"train_dataset": train_dataset.select([0])}
        if eval_dataset is not None:
            first["eval_dataset"] = eval_dataset.select([0])
        super().__init__(model, args, data_collator=collate, **first, **options)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Return a row unchanged."""
        return feature
