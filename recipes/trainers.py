"""TRL's three trainers, on rows that are tokenised already; ORPO is imported here and nowhere else.

Stock TRL 1.16 renders and tokenises the same row differently for ORPO (a BOS and a second EOS) than
for SFT and DPO, and drops other rows. Here the one tokenisation of `recipes.data` is what all three
train on: SFT takes ids as they are, DPO and ORPO each need one method overridden.
"""

import warnings
from typing import Any

from trl import DPOConfig, SFTConfig, SFTTrainer
from trl import DPOTrainer as StockDPOTrainer

with warnings.catch_warnings():
    # TRL keeps ORPO in `experimental` and says so on every import; the pin in requirements.txt is our answer.
    warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")
    from trl.experimental.orpo import ORPOConfig
    from trl.experimental.orpo import ORPOTrainer as StockORPOTrainer

__all__ = ["DPOConfig", "DPOTrainer", "ORPOConfig", "ORPOTrainer", "SFTConfig", "SFTTrainer"]


class DPOTrainer(StockDPOTrainer):
    """TRL's DPO trainer on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`, the columns it would make."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class ORPOTrainer(StockORPOTrainer):
    """TRL's ORPO trainer on rows that already have the columns its own tokenisation would make."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Leave a row as it is."""
        return feature
