"""The reference model of packed DPO: its log-probs of the pairs, computed in each step or once before training."""

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
from recipes.engine.self_check import evaluating
from recipes.engine.trainer import PackedTrainer

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # TRL's names of the columns


class ReferenceTrainer(PackedTrainer):
    """A packed trainer of TRL's that has a reference model, the one that its stage starts from."""

    nll_span = "completion"
    ref_model: Any  # None where the policy without its adapters is the reference, or all pairs are scored before

    def __init__(self, model: Any, args: Any, eval_dataset: Dataset | None = None, **options: Any) -> None:
        # The reference model would score the held-out pairs at once, for nothing where none is evaluated.
        options["eval_dataset"] = eval_dataset if args.eval_strategy != "no" else None
        self.scoring_enabled = False
        super().__init__(model, args, data_collator=collate, **options)

    def enable_scoring(self) -> None:
        """Let policy and reference model score packed rows.

        TRL's constructor asks for the reference's log-probs before ours has come to this; either may be first.
        """
        if not self.scoring_enabled:
            super().enable_scoring()
            if self.ref_model is not None:
                add_scoring(self.accelerator.unwrap_model(self.ref_model))
        self.scoring_enabled = True

    def reference(self, batch: PackedBatch) -> LogProbs:
        """Return the reference model's log-probs of a batch: those known beforehand, else made now."""
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
            if hasattr(policy, "peft_config"):  # without its adapters it is the model that the stage starts from
                stack.enter_context(policy.disable_adapter())
            return self.log_probs(model, batch)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Return `dataset` with the reference model's log-probs of both answers, kept for a stage that is resumed."""
        self.enable_scoring()
        pairs = [pair_of(row) for row in dataset]  # type: ignore[arg-type]
        path = Path(str(self.args.output_dir)) / f"reference-{digest(pairs)}.json"
        try:
            known = read_json(path)
        except UserError:  # there is none, or a damaged one
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
        """Score pairs of like length together; each process has its share, and all get the whole result.

        Returns:
            A pair's place in `pairs` -> the summed log-probs of its chosen and its rejected response.
        """
        order = sorted(range(len(pairs)), key=lambda place: -pairs[place].tokens)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        rounds = math.ceil(len(batches) / processes)
        found: dict[int, tuple[float, float]] = {}
        for done in range(rounds):
            # Sharded processes must run alike: where batches run out, one is scored twice.
            places = batches[(done * processes + own) % len(batches)]
            scores = self.score_reference(pack([pairs[place] for place in places], self.nll_span).to(self.args.device))
            sums = zip(scores.chosen.tolist(), scores.rejected.tolist(), strict=True)
            found |= dict(zip(places, sums, strict=True))
            if own == 0:
                write_text(Path(str(self.args.output_dir)) / "progress", f"{done + 1} {rounds} reference")
        shares: Any = gather_object([found])
        return {place: sums for share in shares for place, sums in share.items()}


def digest(pairs: list[Pair]) -> str:
    """Return a name for these very ids, in their order."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(repr((pair.prompt, pair.chosen, pair.rejected)).encode())
    return found.hexdigest()[:8]
