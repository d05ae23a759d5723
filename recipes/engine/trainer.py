"""Training on packed pairs: TRL's losses to rounding, without padding, second prompts or logits of the whole row."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from recipes.engine.packing import Pair, balance, pack, uncount
from recipes.engine.self_check import add_checked_scoring


@dataclass
class Terms:
    """What a method makes of a row: its loss is the mean of `nll` over tokens and of `losses` over pairs."""

    losses: Tensor  # (pairs,)
    metrics: dict[str, Tensor]  # TRL's name -> (pairs,), without gradient
    nll: Tensor | None = None  # negative log-likelihood of prompts and chosen answers, summed over tokens, (pairs,)


class PackedTrainer(Trainer):
    """Any of TRL's trainers on rows with `prompt_ids`, `chosen_ids` and `rejected_ids`; a micro-batch is one row.

    The loss of an update, and so its gradient, is the same however the update's pairs are split into micro-batches
    and over processes; its pairs are dealt out so that micro-batches are of equal size. Where pairs do not divide
    among processes, Accelerate repeats some: here these weigh nothing, in training and in evaluation. The collator
    of a method returns `{"pairs": [Pair, …]}`, and its `terms` all that differs between methods.

    Metrics have TRL's names and, where a micro-batch is an update, TRL's values; else they are means over all pairs.
    Those that need every logit (`logits/…`, `entropy`, `mean_token_accuracy`) are left out. They stay on the device
    until they are logged.
    """

    nll_span = "full"  # "full" scores the prompts' tokens too, "completion" the answers' only
    splits_alike = True  # False: the likelihood is averaged over each micro-batch by itself, as TRL's ORPO does

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        super().__init__(model, args=args, **options)
        self.loss_is_scaled_for_ga = self.splits_alike
        self.totals: dict[str, dict[str, Tensor]] = {}  # split -> sums since the last log, on the device
        self.enable_scoring()

    def enable_scoring(self) -> None:
        """Let the policy score packed rows.

        Raises:
            UserError: it cannot.
        """
        half, auxiliary = self.args.bf16 or self.args.fp16, getattr(self, "aux_loss_enabled", False)
        add_checked_scoring(self.model, half, auxiliary)

    def terms(self, sums: Tensor, counts: Tensor, inputs: dict[str, Any]) -> Terms:
        """Return a method's loss of a row.

        Args:
            sums: log-probs summed over each pair's scored prompt, chosen and rejected answer, shape (3, pairs).
            counts: the tokens summed over, of the same shape.
            inputs: what `recipes.engine.packing.pack` returns.
        """
        raise NotImplementedError

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | None]:
        """Return an update's packed micro-batches, and its likelihood tokens and pairs, counted over all processes."""
        batches = [batch["pairs"] for batch in islice(epoch_iterator, num_batches)]
        if not self.splits_alike:
            return [pack(pairs, self.nll_span) for pairs in batches], None
        if batches:
            batches[-1] = self.without_repeats(batches[-1], self.args.per_device_train_batch_size)
            if forget := getattr(self.data_collator, "forget", None):
                forget([pair for pair in batches[-1] if not pair.counted])
        packed = [pack(pairs, self.nll_span) for pairs in balance(batches)]
        items = torch.stack([items_of(batch) for batch in packed]).sum(0)
        summed: Any = self.accelerator.reduce(items.to(device), reduction="sum")
        return packed, summed

    def without_repeats(self, pairs: list[Pair], size: int) -> list[Pair]:
        """Take the weight from pairs that fill up the last batch of the data, `size` to each process."""
        state: Any = self.accelerator.gradient_state
        if not state.end_of_dataloader or self.args.dataloader_drop_last:
            return pairs
        # not `state.remainder`: in the epoch that a resumed training goes on in, Accelerate takes it of one process
        left = len(state.active_dataloader.dataset) % (size * self.accelerator.num_processes)
        return uncount(pairs, left - self.accelerator.process_index * size) if left else pairs

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return a micro-batch's share of the loss, times the processes whose gradients DDP and FSDP average."""
        terms = self.tallied(model, inputs, "train")
        if num_items_in_batch is None:
            (tokens, pairs), processes = items_of(inputs), 1
        else:
            (tokens, pairs), processes = num_items_in_batch, self.accelerator.num_processes
        loss = (terms.losses * inputs["weights"]).sum() / pairs
        if terms.nll is not None:
            loss = loss + (terms.nll * inputs["weights"]).sum() / tokens
        return (processes * loss, {}) if return_outputs else processes * loss

    def score(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return log-probs summed over each pair's scored prompt, chosen and rejected answer, shape (3, pairs)."""
        counts = inputs["counts"]
        device = inputs["input_ids"].device.type
        cast = getattr(self, "_peft_has_been_casted_to_bf16", False)  # by TRL's ORPO, under QLoRA
        with torch.autocast(device) if cast else nullcontext():
            log_probs = model(
                input_ids=inputs["input_ids"],
                position_ids=inputs["position_ids"],
                # Four dimensions: Transformers makes no mask of its own. Attention goes by `packing`.
                attention_mask=torch.ones(1, 1, 1, 1, device=counts.device),
                **{name: inputs[name] for name in ("packing", "scored", "targets")},
            )
        return torch.segment_reduce(log_probs, "sum", lengths=counts.flatten(), unsafe=True).view(counts.shape)

    def tallied(self, model: nn.Module, inputs: dict[str, Any], split: str) -> Terms:
        """Return a row's terms, and add its metrics to the totals since the last log; nothing leaves the device."""
        terms = self.terms(self.score(model, inputs), inputs["counts"], inputs)
        nll = {} if terms.nll is None else {"nll": terms.nll.detach()}
        values = {"loss": terms.losses.detach(), **nll, **terms.metrics}
        weights = inputs["weights"].double()
        sums = {name: (value.double() * weights).sum() for name, value in values.items()}
        sums |= dict(zip(("tokens", "pairs"), items_of(inputs).double(), strict=True))
        before = self.totals.get(split, {})
        self.totals[split] = {name: before[name] + value if before else value for name, value in sums.items()}
        return terms

    def means(self, split: str) -> dict[str, float]:
        """Return loss and metrics since the last call, over all processes; every process must call it."""
        totals = self.totals.pop(split, {})
        if not totals:
            return {}
        summed: Any = self.accelerator.reduce(torch.stack(list(totals.values())), reduction="sum")
        sums = dict(zip(totals, summed.tolist(), strict=True))
        pairs, tokens = sums.pop("pairs"), sums.pop("tokens")
        nll = {"nll_loss": sums.pop("nll") / tokens} if "nll" in sums else {}
        found = nll | {name: value / pairs for name, value in sums.items()}
        return found | {"loss": found["loss"] + nll.get("nll_loss", 0.0)}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log `logs` and, after training steps, TRL's metrics."""
        if "loss" in logs:
            logs |= {name: value for name, value in self.means("train").items() if name != "loss"}
        super().log(logs, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, None, None]:
        """Tally a batch; `evaluation_loop` makes the loss of all."""
        with torch.no_grad(), self.compute_loss_context_manager():
            pairs = self.without_repeats(inputs["pairs"], self.args.per_device_eval_batch_size)
            self.tallied(model, self._prepare_inputs(pack(pairs, self.nll_span)), "eval")
        return None, None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **options: Any) -> EvalLoopOutput:
        """Return the loss and metrics over all pairs, whatever the batch size."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **options)
        assert output.metrics is not None
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in self.means("eval").items()})
        return output


def items_of(inputs: dict[str, Any]) -> Tensor:
    """Return the likelihood tokens and the pairs of a row that count, shape (2,)."""
    weights = inputs["weights"]
    return torch.stack([(inputs["counts"][:2].sum(0) * weights).sum(), weights.sum()])
