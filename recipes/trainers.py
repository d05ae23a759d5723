"""TRL's three trainers, on rows that are tokenised already; ORPO is imported here and nowhere else.

Stock TRL 1.16 renders and tokenises the same row differently for ORPO (a BOS and a second EOS) than
for SFT and DPO, and drops other rows. Here the one tokenisation of `recipes.data` is what all three
train on: SFT takes ids as they are, DPO and ORPO each need one method overridden.
"""

import warnings
from dataclasses import dataclass
from typing import Any

from trl import DPOConfig, SFTTrainer
from trl import DPOTrainer as StockDPOTrainer
from trl import SFTConfig as StockSFTConfig

with warnings.catch_warnings():
    # TRL keeps ORPO in `experimental` and says so on every import; the pin in requirements.txt is our answer.
    warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")
    from trl.experimental.orpo import ORPOConfig
    from trl.experimental.orpo import ORPOTrainer as StockORPOTrainer

__all__ = ["DPOConfig", "DPOTrainer", "ORPOConfig", "ORPOTrainer", "SFTConfig", "SFTTrainer"]


# TRL's DPO and ORPO log different quantities under one name; a chart would lay them over each other.
DPO_NAMES = {
    "logps/": "logps_sum/",  # of an answer's tokens
    "rewards/": "rewards_reference/",  # beta times the log-ratio to the reference model
}


@dataclass
class SFTConfig(StockSFTConfig):
    """TRL's, with an option that DPO and ORPO have and SFT lacks: without it SFT alone would train with dropout."""

    disable_dropout: bool = True


class DPOTrainer(StockDPOTrainer):
    """TRL's DPO trainer on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`, the columns it would make."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under names that say what they are."""
        for metrics in self._metrics.values():
            rename(metrics, DPO_NAMES)
        super().log(logs, start_time)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class ORPOTrainer(StockORPOTrainer):
    """TRL's ORPO trainer on rows that already have the columns its own tokenisation would make."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Leave a row as it is."""
        return feature


def rename(metrics: dict[str, Any], names: dict[str, str]) -> None:
    """Give the metrics that begin with a name of `names` the other one."""
    for key in list(metrics):
        for name, other in names.items():
            if key.startswith(name):
                metrics[key.replace(name, other, 1)] = metrics.pop(key)
