"""Training on packed pairs: TRL's losses up to rounding, without padding, repeated prompts or logits of a whole row."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from recipes.engine.loss import LogProbs, Loss
from recipes.engine.metrics import RunningMeans, counting, preference_metrics
from recipes.engine.packing import PackedBatch, Pair, balance, pack, uncount
from recipes.engine.self_check import add_checked_scoring
from recipes.engine.trl import cast_by_trl
from recipes.methods import Method


class PackedTrainer(Trainer):
    """Any of TRL's trainers on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`; a micro-batch is one row.

    The loss of an optimizer step, and so its gradient, does not depend on how its pairs are split into micro-batches
    and over processes; pairs are distributed so that micro-batches have equal size. If pairs do not divide among
    processes, Accelerate repeats some: these get zero weight here, in training and in evaluation. The collator of a
    method returns `{"pairs": [Pair, …]}`, and methods differ only in `loss`.

    Metrics have TRL's names and, if a micro-batch is a whole optimizer step, TRL's values; else they are means over all
    pairs, and a response's over all that there are. Those that need every logit (`logits/…`, `entropy`,
    `mean_token_accuracy`) are left out. They stay on the device until they are logged.
    """

    method: Method
    nll_span = "full"  # which tokens are scored, see `engine.packing.pack`
    nll_weight = 1.0  # of the NLL in the loss, as `loss` last returned it
    splits_alike = True  # False: the NLL is averaged over each micro-batch separately, as in TRL's ORPO

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        super().__init__(model, args=args, **options)
        self.loss_is_scaled_for_ga = self.splits_alike
        self.means = {"train": RunningMeans(), "eval": RunningMeans()}
        self.enable_scoring()

    def loss(self, policy: LogProbs, batch: PackedBatch) -> Loss:
        """Return the method's loss of a batch."""
        raise NotImplementedError

    def enable_scoring(self) -> None:
        """Let the policy score packed rows.

        Raises:
            UserError: the model does not support it.
        """
        half, auxiliary = self.args.bf16 or self.args.fp16, getattr(self, "aux_loss_enabled", False)
        add_checked_scoring(self.model, half, auxiliary)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | None]:
        """Return an optimizer step's packed micro-batches, and its NLL tokens and pairs, counted over all processes."""
        batches = [batch["pairs"] for batch in islice(epoch_iterator, num_batches)]
        if not self.splits_alike:
            return [as_inputs(pack(pairs, self.nll_span)) for pairs in batches], None
        if batches:
            batches[-1] = self.without_repeats(batches[-1], self.args.per_device_train_batch_size)
            if forget := getattr(self.data_collator, "forget", None):
                forget([pair for pair in batches[-1] if not pair.counted])
            self.begin_step(batches)
        packed = [pack(pairs, self.nll_span) for pairs in balance(batches)]
        items = torch.stack([batch.items for batch in packed]).sum(0)
        return [as_inputs(batch) for batch in packed], self.summed(items.to(device))

    def begin_step(self, batches: list[list[Pair]]) -> None:
        """Do what a method needs of an optimizer step's pairs before they are trained on, in the order of the data."""

    def without_repeats(self, pairs: list[Pair], size: int) -> list[Pair]:
        """Give zero weight to pairs that pad the last batch of the data; each process takes `size`."""
        state: Any = self.accelerator.gradient_state
        if not state.end_of_dataloader or self.args.dataloader_drop_last:
            return pairs
        # not `state.remainder`: in a resumed epoch, Accelerate computes it for one process
        left = len(state.active_dataloader.dataset) % (size * self.accelerator.num_processes)
        return uncount(pairs, left - self.accelerator.process_index * size) if left else pairs

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return a micro-batch's share of the loss, times the number of processes: DDP and FSDP average gradients."""
        batch: PackedBatch = inputs["batch"].to(self.args.device)
        found = self.noted_loss(model, batch, "train")
        if num_items_in_batch is None:
            (tokens, pairs), processes = batch.items, 1
        else:
            (tokens, pairs), processes = num_items_in_batch, self.accelerator.num_processes
        terms = ((found.preference, pairs, 1.0), (found.nll, tokens, found.nll_weight))
        parts = (weight * (term * batch.weights).sum() / count for term, count, weight in terms if term is not None)
        loss: Any = sum(parts)
        return (processes * loss, {}) if return_outputs else processes * loss

    def log_probs(self, model: nn.Module, batch: PackedBatch) -> LogProbs:
        """Return a model's log-probs of a batch's pairs, from one forward pass."""
        with torch.autocast(self.args.device.type, torch.bfloat16) if cast_by_trl(self) else nullcontext():
            scores = model(**batch.model_inputs())
        sums = torch.segment_reduce(scores, "sum", lengths=batch.counts.flatten(), unsafe=True)
        return LogProbs.of(sums.view(batch.counts.shape), batch.counts)

    def loss_of(self, model: nn.Module, batch: PackedBatch) -> tuple[Loss, dict[str, Tensor]]:
        """Return a batch's loss and its metrics, each of shape (pairs,), from one forward pass."""
        policy = self.log_probs(model, batch)
        found = self.loss(policy, batch)
        return found, preference_metrics(found, policy, self.method.logged_log_probs == "mean") | found.metrics

    def noted_loss(self, model: nn.Module, batch: PackedBatch, mode: str) -> Loss:
        """Return a batch's loss, and note it and its metrics for `mode`, train or eval; nothing leaves the device."""
        found, metrics = self.loss_of(model, batch)
        if found.preference is not None:
            metrics["loss"] = found.preference
        means = self.means[mode]
        for name, value in metrics.items():
            weights = counting(name, batch.counted).double()
            means.add({name: (value.detach().double() * weights).sum()}, weights.sum())
        if found.nll is not None:
            self.nll_weight = found.nll_weight
            means.add({"nll_loss": (found.nll.detach().double() * batch.weights).sum()}, batch.items[0])
        return found

    def taken(self, mode: str) -> dict[str, float]:
        """Return what was noted for `mode` since the last call; every process must call this."""
        return self.means[mode].take(self.summed)

    def summed(self, values: Tensor) -> Any:
        """Return values summed over all processes."""
        return self.accelerator.reduce(values, reduction="sum")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log `logs` and, after training steps, TRL's metrics."""
        if "loss" in logs:
            logs |= {name: value for name, value in self.taken("train").items() if name != "loss"}
        super().log(logs, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, None, None]:
        """Add up a batch's loss; `evaluation_loop` computes the loss of all."""
        with torch.no_grad(), self.compute_loss_context_manager():
            pairs = self.without_repeats(inputs["pairs"], self.args.per_device_eval_batch_size)
            self.noted_loss(model, pack(pairs, self.nll_span).to(self.args.device), "eval")
        return None, None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> EvalLoopOutput:
        """Return the loss and metrics over all pairs, whatever the batch size."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        assert output.metrics is not None
        means = self.taken("eval")
        if means:
            means["loss"] = means.get("loss", 0.0) + self.nll_weight * means.get("nll_loss", 0.0)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in means.items()})
        return output


def as_inputs(batch: PackedBatch) -> dict[str, Any]:
    """Return a batch in the form that Transformers' trainer passes on: a dictionary, whose `input_ids` it counts."""
    return {"input_ids": batch.input_ids, "batch": batch}
