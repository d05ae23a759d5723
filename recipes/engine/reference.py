"""The reference model of a packed trainer: its log-probs of pairs, in each step or once before the training."""

import hashlib
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset

from recipes.config import UserError, read_json, write_json, write_text
from recipes.engine.log_probs import add_scoring
from recipes.engine.loss import LogProbs
from recipes.engine.packing import PackedBatch, Pair, collate, pack, pair_of
from recipes.engine.tolerance import evaluating
from recipes.engine.trainer import PackedTrainer

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # TRL's column names


class ReferenceTrainer(PackedTrainer):
    """A packed trainer with a reference model, which is its initial checkpoint."""

    nll_span = "completion"
    ref_model: Any  # None if the policy without adapters is the reference, or all pairs are scored beforehand

    def __init__(self, model: Any, args: Any, eval_dataset: Dataset | None = None, **options: Any) -> None:
        # TRL would let the reference model score the held-out pairs at once, in vain if none is evaluated.
        options["eval_dataset"] = eval_dataset if args.eval_strategy != "no" or args.eval_on_start else None
        self.scoring_enabled = False
        super().__init__(model, args, data_collator=collate, **options)

    def enable_scoring(self) -> None:
        """Let policy and reference model score packed rows.

        TRL's constructor requests the reference's log-probs before ours gets here; either may be first.
        """
        if not self.scoring_enabled:
            super().enable_scoring()
            if self.ref_model is not None:
                add_scoring(self.accelerator.unwrap_model(self.ref_model))
        self.scoring_enabled = True

    def reference(self, batch: PackedBatch) -> LogProbs:
        """Return the reference model's log-probs of a batch: precomputed ones, else computed now."""
        if batch.reference is None:
            return self.score_reference(batch)
        return LogProbs.of(torch.cat([torch.zeros_like(batch.reference[:1]), batch.reference]), batch.counts)

    @torch.no_grad()
    def score_reference(self, batch: PackedBatch) -> LogProbs:
        """Return a batch's log-probs by a forward pass of the reference model, without dropout."""
        model: Any = self.model if self.ref_model is None else self.ref_model
        policy: Any = self.accelerator.unwrap_model(model)
        with ExitStack() as stack:
            stack.enter_context(self.accelerator.autocast())
            stack.enter_context(evaluating(model))
            if hasattr(policy, "peft_config"):  # without its adapters the policy is its initial checkpoint
                stack.enter_context(policy.disable_adapter())
            return self.log_probs(model, batch)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Return `dataset` with the reference model's log-probs of both responses, kept for a resumed stage."""
        self.enable_scoring()
        pairs = [pair_of(row) for row in dataset]  # type: ignore[arg-type]
        path = Path(str(self.args.output_dir)) / f"reference-{digest(pairs)}.json"
        try:
            known = read_json(path)
        except UserError:  # missing or damaged
            started = time.monotonic()
            sums = [list(found) for _, found in sorted(self.reference_of(pairs, batch_size).items())]
            known = {"seconds": time.monotonic() - started, "log_probs": sums}
            if self.accelerator.is_main_process:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, known)
        if name == "train":
            self.reference_seconds = known["seconds"]
        for place, column in enumerate(REFERENCE):
            dataset = dataset.add_column(column, [sums[place] for sums in known["log_probs"]])  # type: ignore[call-arg]
        return dataset

    def reference_of(self, pairs: list[Pair], batch_size: int) -> dict[int, tuple[float, float]]:
        """Score pairs of similar length together; each process scores its share, and all get the whole result.

        Returns:
            A pair's index in `pairs` -> the summed log-probs of its chosen and its rejected response.
        """
        order = sorted(range(len(pairs)), key=lambda place: -pairs[place].tokens)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        rounds = math.ceil(len(batches) / processes)
        found: dict[int, tuple[float, float]] = {}
        for done in range(rounds):
            # Sharded processes must run in step: a process without batches left scores one again.
            places = batches[(done * processes + own) % len(batches)]
            scores = self.score_reference(pack([pairs[place] for place in places], self.nll_span).to(self.args.device))
            sums = zip(scores.chosen.tolist(), scores.rejected.tolist(), strict=True)
            found |= dict(zip(places, sums, strict=True))
            if own == 0:
                write_text(Path(str(self.args.output_dir)) / "progress", f"{done + 1} {rounds} reference")
        shares: Any = gather_object([found])
        return {place: sums for share in shares for place, sums in share.items()}


def digest(pairs: list[Pair]) -> str:
    """Return a digest of exactly these ids, in order."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(repr((pair.prompt, pair.chosen, pair.rejected)).encode())
    return found.hexdigest()[:8]
