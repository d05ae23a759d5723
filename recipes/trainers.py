"""TRL's three trainers, on rows that are tokenised already; ORPO is imported here and nowhere else.

Stock TRL 1.16 renders and tokenises the same row differently for ORPO (a BOS and a second EOS) than
for SFT and DPO, and drops other rows. Here the one tokenisation of `recipes.data.prepare` is what all three
train on; each needs one method overridden. `recipes.engines` has the trainers that are used by default;
those here compute their losses as TRL does.
"""

import time
import warnings
from dataclasses import MISSING, dataclass, fields
from typing import Any

from torch.nn.functional import cross_entropy
from transformers import TrainingArguments
from trl import DPOConfig as StockDPOConfig
from trl import DPOTrainer as StockDPOTrainer
from trl import SFTConfig as StockSFTConfig
from trl import SFTTrainer as StockSFTTrainer

with warnings.catch_warnings():
    # TRL keeps ORPO in `experimental` and says so on every import; the pin in requirements.txt is our answer.
    warnings.filterwarnings("ignore", message="You are importing from 'trl.experimental'")
    from trl.experimental.orpo import ORPOConfig as StockORPOConfig
    from trl.experimental.orpo import ORPOTrainer as StockORPOTrainer

from recipes.config import reads_every_pair
from recipes.data.prepare import demonstrations, dialogues
from recipes.odds import log_probability_ratio

__all__ = ["DPOConfig", "DPOTrainer", "ORPOConfig", "ORPOTrainer", "SFTConfig", "SFTTrainer"]

ENGINES = ("packed", "stock")
# TRL's own options that packed SFT and DPO heed, or that say how rows are tokenised, which is done by then.
HEEDED = {
    "engine",
    "disable_dropout",
    "beta",
    "completion_only_loss",
    "activation_offloading",
    "max_length",
    "precompute_ref_log_probs",
    "precompute_ref_batch_size",
    "truncation_mode",
    "pad_to_multiple_of",
    "pad_token",
    "dataset_num_proc",
}

# TRL's DPO and ORPO log different quantities under one name; a chart would lay them over each other.
DPO_NAMES = {
    "logps/": "logps_sum/",  # of an answer's tokens
    "rewards/": "rewards_reference/",  # beta times the log-ratio to the reference model
}
ORPO_NAMES = {
    "logps/": "logps_mean/",  # of an answer's tokens
    "rewards/": "rewards_scaled/",  # beta times that mean
}


@dataclass
class SFTConfig(StockSFTConfig):
    """TRL's options for SFT, the engine, and an option that DPO and ORPO have: SFT alone would train with dropout."""

    disable_dropout: bool = True
    engine: str = "packed"  # or "stock": TRL's own forward pass

    def __post_init__(self) -> None:
        """Check the engine; TRL checks its own options.

        Raises:
            ValueError: the engine is unknown, or cannot honour an option.
        """
        super().__post_init__()
        check_engine(self)


class SFTTrainer(StockSFTTrainer):
    """TRL's SFT trainer on rows with `prompt_ids` and `chosen_ids`."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._prepare_dataset(demonstrations(dataset), *args, **kwargs)


@dataclass
class DPOConfig(StockDPOConfig):
    """TRL's options for DPO, and which engine computes its loss."""

    engine: str = "packed"  # or "stock": TRL's own forward pass
    # Null: before the training where it reads every pair, so that no second model is held; else in each update.
    precompute_ref_log_probs: bool | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check the engine; TRL checks its own options.

        Raises:
            ValueError: the engine is unknown, or cannot honour an option.
        """
        super().__post_init__()
        check_engine(self)


class DPOTrainer(StockDPOTrainer):
    """TRL's DPO trainer on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`, the columns it would make."""

    reference_seconds = 0.0  # that the reference model took for the training's pairs before it

    def __init__(self, model: Any, args: Any, train_dataset: Any, **options: Any) -> None:
        if args.precompute_ref_log_probs is None:
            batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            args.precompute_ref_log_probs = reads_every_pair(vars(args), batch_size, len(train_dataset))
        super().__init__(model, args=args, train_dataset=train_dataset, **options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under names that say what they are."""
        for metrics in (logs, *self._metrics.values()):
            rename(metrics, DPO_NAMES)
        super().log(logs, start_time)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        started = time.monotonic()
        dataset = super()._precompute_ref_logps(dataset, name, batch_size)
        if name == "train":
            self.reference_seconds = time.monotonic() - started
        return dataset


@dataclass
class ORPOConfig(StockORPOConfig):
    """TRL's options for ORPO, which engine computes its loss, and of what."""

    engine: str = "packed"  # or "stock": TRL's own forward pass
    ratio: str = "odds"  # or "probability": the paper's appendix B; `log_odds_*` are logged of the odds all the same
    nll_span: str = "full"  # prompt and answer, as in TRL and the authors' code; or "completion": the answer only
    # What the likelihood term is averaged over: "update", all tokens of an update, however it is split into
    # micro-batches and over devices; "micro_batch", as in TRL; null: "update" where the engine is packed.
    nll_mean: str | None = None

    def __post_init__(self) -> None:
        """Check our options; TRL checks its own.

        Raises:
            ValueError: an option has a value that it does not take, or one that the engine cannot honour.
        """
        super().__post_init__()
        self.nll_mean = self.nll_mean or ("update" if self.engine == "packed" else "micro_batch")
        check_choice("engine", self.engine, ENGINES)
        check_choice("ratio", self.ratio, ("odds", "probability"))
        check_choice("nll_span", self.nll_span, ("full", "completion"))
        check_choice("nll_mean", self.nll_mean, ("update", "micro_batch"))
        if self.engine == "stock" and self.nll_mean == "update":
            raise ValueError("nll_mean=update needs engine=packed: TRL averages over each micro-batch by itself")
        if self.engine == "packed" and self.generate_during_eval:
            raise ValueError("generate_during_eval needs engine=stock: packed rows hold no padded prompts")


class ORPOTrainer(StockORPOTrainer):
    """TRL's ORPO trainer on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    args: ORPOConfig

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Return the columns that TRL's own tokenisation would make."""
        return dialogues(feature)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under names that say what they are."""
        for metrics in (logs, *self._stored_metrics.values()):
            rename(metrics, ORPO_NAMES)
        super().log(logs, start_time)

    def odds_ratio_loss(self, policy_chosen_logps: Any, policy_rejected_logps: Any) -> tuple[Any, ...]:
        """Return TRL's loss and metrics, the loss of the ratio that `ratio` names."""
        losses, *metrics = super().odds_ratio_loss(policy_chosen_logps, policy_rejected_logps)
        if self.args.ratio == "probability":
            losses = self.beta * log_probability_ratio(policy_chosen_logps, policy_rejected_logps)[1]
        return losses, *metrics

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """Return TRL's log-probs, logits and likelihood term, the last over the span that `nll_span` names."""
        outputs = super().concatenated_forward(model, batch)
        if self.args.nll_span == "full":
            return outputs
        labels = batch["chosen_labels"][:, 1:]
        logits = outputs[2][:, : labels.shape[1]]
        return (*outputs[:4], cross_entropy(logits.flatten(0, 1), labels.flatten()), *outputs[5:])


def rename(metrics: dict[str, Any], names: dict[str, str]) -> None:
    """Give the metrics that begin with a name of `names` the other one."""
    for key in list(metrics):
        for name, other in names.items():
            if key.removeprefix("eval_").startswith(name):
                metrics[key.replace(name, other, 1)] = metrics.pop(key)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that an option does not take.

    Raises:
        ValueError: it is none of `allowed`.
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: use {' or '.join(allowed)}")


def check_engine(config: Any) -> None:
    """Refuse an unknown engine, and TRL's options that packed SFT and DPO would not heed.

    What Transformers' own trainer heeds, they heed.

    Raises:
        ValueError: such an option has another value than its default.
    """
    check_choice("engine", config.engine, ENGINES)
    common = {option.name for option in fields(TrainingArguments)}
    for option in fields(config):
        default = option.default_factory() if option.default_factory is not MISSING else option.default
        value = getattr(config, option.name)
        if config.engine == "packed" and option.name not in common | HEEDED and value != default:
            raise ValueError(f"{option.name}={value} needs engine=stock: packed rows are trained with {default}")
