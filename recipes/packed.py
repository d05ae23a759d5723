"""ORPO on packed pairs: TRL's loss to rounding, without padding, second prompts or logits of the whole row."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.trainer_utils import EvalLoopOutput

from recipes.odds import log_odds_ratio
from recipes.packing import balance, collate, pack
from recipes.probe import add_checked_scoring
from recipes.trainers import ORPOTrainer

# TRL's names of what is averaged over pairs; `logits/…` would need every logit, and are left out.
PER_PAIR = (
    *("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"),
    *("logps/chosen", "logps/rejected", "log_odds_ratio", "log_odds_chosen"),
)


class PackedORPOTrainer(ORPOTrainer):
    """ORPO on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`; each micro-batch is one row without padding.

    With `nll_mean="update"` the loss of an update, and so its gradient, is the same however the update's pairs are
    split into micro-batches and over processes; their pairs are dealt out so that micro-batches are of equal size.
    """

    def __init__(
        self, model: Any, args: Any, train_dataset: Dataset, eval_dataset: Dataset | None = None, **options: Any
    ) -> None:
        # TRL maps three functions over all rows, none of which would change one: it gets a single row of each.
        first = {"train_dataset": train_dataset.select([0])}
        if eval_dataset is not None:
            first["eval_dataset"] = eval_dataset.select([0])
        super().__init__(model, args=args, data_collator=collate, **first, **options)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.loss_is_scaled_for_ga = args.nll_mean == "update"
        self.totals: dict[str, Tensor] = {}  # since the last log, on the device: see `tally`
        add_checked_scoring(self.model, half=args.bf16 or args.fp16)
        keep_log_probs_in_float32(self.accelerator.state)

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """Leave a row as it is."""
        return feature

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | None]:
        """Return an update's packed micro-batches, and its likelihood tokens and pairs, counted over all processes."""
        batches = [batch["pairs"] for batch in islice(epoch_iterator, num_batches)]
        if self.args.nll_mean == "micro_batch":
            return [pack(pairs, self.args.nll_span) for pairs in batches], None
        packed = [pack(pairs, self.args.nll_span) for pairs in balance(batches)]
        items = sum(
            torch.stack([batch["counts"][:2].sum(), torch.tensor(batch["counts"].shape[1])]) for batch in packed
        )
        assert isinstance(items, Tensor)
        summed: Any = self.accelerator.reduce(items.to(device), reduction="sum")
        return packed, summed

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return a micro-batch's share of equation 7, times the processes whose gradients DDP and FSDP average."""
        nll, ratios = self.terms(model, inputs, "train")
        if num_items_in_batch is None:
            tokens, pairs, processes = inputs["counts"][:2].sum(), len(ratios), 1
        else:
            (tokens, pairs), processes = num_items_in_batch, self.accelerator.num_processes
        loss = processes * (nll / tokens - self.beta * ratios.sum() / pairs)
        return (loss, {}) if return_outputs else loss

    def terms(self, model: nn.Module, inputs: dict[str, Any], split: str) -> tuple[Tensor, Tensor]:
        """Return a row's negative log-likelihood, summed over tokens, and each pair's log sigmoid(log odds ratio)."""
        counts = inputs["counts"]
        device = inputs["input_ids"].device.type
        with torch.autocast(device) if self._peft_has_been_casted_to_bf16 else nullcontext():
            log_probs = model(
                input_ids=inputs["input_ids"],
                position_ids=inputs["position_ids"],
                # Four dimensions: Transformers makes no mask of its own. Attention goes by `packing`.
                attention_mask=torch.ones(1, 1, 1, 1, device=counts.device),
                **{name: inputs[name] for name in ("packing", "scored", "targets")},
            )
        sums = torch.segment_reduce(log_probs, "sum", lengths=counts.flatten(), unsafe=True).view(counts.shape)
        chosen, rejected = sums[1:] / counts[1:]
        log_odds, ratios = log_odds_ratio(chosen, rejected)
        nll = -sums[:2].sum()
        self.tally(split, chosen.detach(), rejected.detach(), ratios.detach(), log_odds.detach(), nll.detach(), counts)
        return nll, ratios

    def tally(
        self,
        split: str,
        chosen: Tensor,
        rejected: Tensor,
        ratios: Tensor,
        log_odds: Tensor,
        nll: Tensor,
        counts: Tensor,
    ) -> None:
        """Add a row's metrics to the totals since the last log; nothing leaves the device."""
        rewards = (self.beta * chosen, self.beta * rejected, (chosen > rejected).to(chosen.dtype))
        per_pair = torch.stack([*rewards, self.beta * (chosen - rejected), chosen, rejected, ratios, log_odds])
        whole = torch.stack([nll.double(), counts[:2].sum().double()])
        row = torch.cat([per_pair.double().sum(1), counts.new_tensor([counts.shape[1]]).double(), whole])
        self.totals[split] = self.totals[split] + row if split in self.totals else row

    def means(self, split: str) -> dict[str, float]:
        """Return the metrics since the last call, over all processes; every process must call it."""
        if split not in self.totals:
            return {}
        summed: Any = self.accelerator.reduce(self.totals.pop(split), reduction="sum")
        *per_pair, pairs, nll, tokens = summed.tolist()
        return {"nll_loss": nll / tokens} | {
            name: value / pairs for name, value in zip(PER_PAIR, per_pair, strict=True)
        }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log `logs` and, after training steps, TRL's metrics."""
        if "loss" in logs:
            logs |= self.means("train")
        super().log(logs, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, None, None]:
        """Tally a batch; `evaluation_loop` makes the loss of all."""
        with torch.no_grad(), self.compute_loss_context_manager():
            self.terms(model, self._prepare_inputs(pack(inputs["pairs"], self.args.nll_span)), "eval")
        return None, None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> EvalLoopOutput:
        """Return the loss and metrics over all pairs, whatever the batch size."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        means = self.means("eval")
        means["loss"] = means["nll_loss"] - self.beta * means["log_odds_ratio"]
        assert output.metrics is not None
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in means.items()})
        return output


def keep_log_probs_in_float32(state: Any) -> None:
    """Undo Accelerate's cast of all outputs to bf16 under FSDP2: log-probs would keep three digits."""
    plugin = getattr(state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if plugin is not None and isinstance(policy, MixedPrecisionPolicy):
        plugin.mixed_precision_policy = replace(policy, output_dtype=torch.float32)


ENGINES = {"packed": PackedORPOTrainer, "stock": ORPOTrainer}
